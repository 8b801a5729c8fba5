#include "tf_ops/embedding/ops/checkpoint_files.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "tensorflow/core/platform/path.h"
#include "tensorflow/core/platform/random.h"
#include "tf_ops/embedding/ops/status_adapter.h"
#include "tf_ops/embedding/table/manifest.h"

namespace taco {
namespace ops {
namespace {

constexpr char kAlphabet[] = "0123456789abcdefghijklmnopqrstuvwxyz";
constexpr int kAlphabetSize = sizeof(kAlphabet) - 1;
constexpr char kTemporary[] = ".tmp";

}  // namespace

std::string NewSuffix(tensorflow::Env* env, const std::string& prefix, int index,
                      const std::set<std::string>& taken) {
  for (;;) {
    uint64_t random = tensorflow::random::New64();
    std::string suffix(embedding::kTableSuffix);
    for (char& c : suffix) {
      if (c != '*') continue;
      c = kAlphabet[random % kAlphabetSize];
      random /= kAlphabetSize;
    }
    suffix.back() = kAlphabet[index % kAlphabetSize];
    if (taken.count(suffix) == 0 && !env->FileExists(prefix + suffix).ok()) return suffix;
  }
}

void DeleteOrphans(tensorflow::Env* env, const std::string& prefix,
                   const std::set<std::string>& keep) {
  const std::string folder(tensorflow::io::Dirname(prefix));
  const std::string stem(tensorflow::io::Basename(prefix));
  std::vector<std::string> children;
  if (!env->GetChildren(folder.empty() ? "." : folder, &children).ok()) return;
  for (const std::string& child : children) {
    absl::string_view suffix = child;
    if (!absl::ConsumePrefix(&suffix, stem)) continue;
    absl::ConsumeSuffix(&suffix, kTemporary);
    if (!embedding::IsTableSuffix(suffix) || keep.count(std::string(suffix)) != 0) continue;
    env->DeleteFile(tensorflow::io::JoinPath(folder, child)).IgnoreError();
  }
}

AtomicFile::AtomicFile(tensorflow::Env* env, std::string name)
    : env_(env), name_(std::move(name)), temporary_name_(name_ + kTemporary) {}

AtomicFile::~AtomicFile() {
  if (file_ != nullptr) file_->Close().IgnoreError();
  if (temporary_exists_) env_->DeleteFile(temporary_name_).IgnoreError();
}

absl::Status AtomicFile::Open() {
  absl::Status status = env_->NewWritableFile(temporary_name_, &file_);
  temporary_exists_ = status.ok();
  return NameFile(status, "cannot create", temporary_name_);
}

embedding::Status AtomicFile::Append(const void* data, size_t size) {
  const char* bytes = static_cast<const char*>(data);
  while (size > 0) {
    const size_t piece = std::min(size, embedding::kMaxBlockBytes);
    const absl::Status status = file_->Append(absl::string_view(bytes, piece));
    if (!status.ok()) return FromFileSystem(status, "cannot write", temporary_name_);
    bytes += piece;
    size -= piece;
    bytes_ += static_cast<int64_t>(piece);
  }
  return embedding::OkStatus();
}

absl::Status AtomicFile::Close() {
  absl::Status status = file_->Flush();
  if (status.ok()) status = file_->Sync();
  const absl::Status closed = file_->Close();
  file_.reset();
  return NameFile(status.ok() ? closed : status, "cannot write", temporary_name_);
}

absl::Status AtomicFile::Commit() {
  const absl::Status status = env_->RenameFile(temporary_name_, name_);
  if (!status.ok()) {
    return NameFile(status, "cannot rename to", name_);
  }
  temporary_exists_ = false;
  return absl::OkStatus();
}

void AtomicFile::Delete() { env_->DeleteFile(name_).IgnoreError(); }

absl::Status FileSource::Open(tensorflow::Env* env, const std::string& name) {
  name_ = name;
  offset_ = 0;
  uint64_t bytes;
  absl::Status status = env->GetFileSize(name, &bytes);
  if (status.ok()) status = env->NewRandomAccessFile(name, &file_);
  if (!status.ok()) return NameFile(status, "cannot open table file", name);
  bytes_ = static_cast<int64_t>(bytes);
  return absl::OkStatus();
}

embedding::Status FileSource::Read(void* data, size_t size, size_t* got) {
  absl::string_view result;
  const absl::Status status =
      file_->Read(offset_, result, absl::MakeSpan(static_cast<char*>(data), size));
  *got = result.size();
  if (!status.ok() && status.code() != absl::StatusCode::kOutOfRange) {
    *got = 0;
    return FromFileSystem(status, "cannot read", name_);
  }
  if (result.data() != data && !result.empty()) std::memmove(data, result.data(), result.size());
  offset_ += result.size();
  return embedding::OkStatus();
}

}  // namespace ops
}  // namespace taco
