// Names and life of table files in a checkpoint's folder.
//
//   <prefix>.data-x7k2q-of-taco0        a table's file: five random characters; the last one is the
//                                       table's number in its save, modulo 36
//   <prefix>.data-x7k2q-of-taco0.tmp    the same while it is being written
//
// TensorFlow names the shards of a checkpoint <prefix>.data-00000-of-00001, and its checkpoint
// managers delete <prefix>.data-?????-of-?????: our files go with the checkpoint. manifest.h has
// the pattern.
#ifndef TF_OPS_EMBEDDING_OPS_CHECKPOINT_FILES_H_
#define TF_OPS_EMBEDDING_OPS_CHECKPOINT_FILES_H_

#include <memory>
#include <set>
#include <string>

#include "absl/status/status.h"
#include "tensorflow/core/platform/env.h"
#include "tf_ops/embedding/table/initializer.h"
#include "tf_ops/embedding/table/table_file.h"

namespace taco {
namespace ops {

// A suffix for table `index` of a save that is not in `taken` and under which `prefix` has no file.
std::string NewSuffix(tensorflow::Env* env, const std::string& prefix, int index,
                      const std::set<std::string>& taken);

// Deletes table files of `prefix`, finished or not, whose suffix is not in `keep`. Files that
// cannot be deleted stay: they harm nobody.
void DeleteOrphans(tensorflow::Env* env, const std::string& prefix,
                   const std::set<std::string>& keep);

// A file that appears under its name complete or not at all. One thread.
class AtomicFile final : public embedding::ByteSink {
 public:
  AtomicFile(tensorflow::Env* env, std::string name);
  ~AtomicFile() override;  // deletes what was not committed

  absl::Status Open();
  embedding::Status Append(const void* data, size_t size) override;
  absl::Status Close();   // all bytes are on the disk now, under the temporary name
  absl::Status Commit();  // renames; after Close
  void Delete();          // undoes Commit

  const std::string& name() const { return name_; }
  int64_t bytes() const { return bytes_; }

 private:
  tensorflow::Env* const env_;
  const std::string name_;
  const std::string temporary_name_;
  std::unique_ptr<tensorflow::WritableFile> file_;
  bool temporary_exists_ = false;
  int64_t bytes_ = 0;
};

// Reads a file from its start, as the core's reader wants it. One thread.
class FileSource final : public embedding::ByteSource {
 public:
  absl::Status Open(tensorflow::Env* env, const std::string& name);
  embedding::Status Read(void* data, size_t size, size_t* got) override;
  int64_t bytes() const { return bytes_; }

 private:
  std::string name_;
  std::unique_ptr<tensorflow::RandomAccessFile> file_;
  int64_t bytes_ = 0;
  uint64_t offset_ = 0;
};

}  // namespace ops
}  // namespace taco

#endif  // TF_OPS_EMBEDDING_OPS_CHECKPOINT_FILES_H_
