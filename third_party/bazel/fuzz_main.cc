// main() of a fuzz test that is built without libFuzzer: feeds LLVMFuzzerTestOneInput the corpus,
// then mutations of it and plain noise, until -max_total_time seconds are over.
//
// Takes libFuzzer's own arguments: -max_total_time=N, -runs=N, -seed=N, and corpus folders. The
// input in flight stands in a memory-mapped file, so that it survives a crash; the path is printed
// first.

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using Bytes = std::vector<uint8_t>;

constexpr size_t kMaxInput = 64 * 1024;

// The file that holds the input in flight: its size in 8 bytes, then its bytes.
class InFlight {
 public:
  InFlight() {
    const char* folder = getenv("TEST_UNDECLARED_OUTPUTS_DIR");
    path_ = std::string(folder ? folder : "/tmp") + "/fuzz_input." + std::to_string(getpid());
    const int file = open(path_.c_str(), O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (file < 0 || ftruncate(file, 8 + kMaxInput) != 0) {
      perror(path_.c_str());
      exit(2);
    }
    map_ = static_cast<uint8_t*>(
        mmap(nullptr, 8 + kMaxInput, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0));
    close(file);
  }
  ~InFlight() { unlink(path_.c_str()); }

  void Run(const Bytes& input) {
    const uint64_t size = input.size();
    memcpy(map_, &size, sizeof size);
    std::copy(input.begin(), input.end(), map_ + 8);
    // A copy of the exact size: the address sanitizer then sees a read past its end.
    const Bytes exact(input);
    LLVMFuzzerTestOneInput(exact.data(), exact.size());
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  uint8_t* map_;
};

class Mutator {
 public:
  Mutator(uint64_t seed, const std::vector<Bytes>& corpus) : random_(seed), corpus_(corpus) {}

  Bytes Next() {
    Bytes input;
    if (!corpus_.empty() && Below(8) != 0) input = corpus_[Below(corpus_.size())];
    if (input.empty()) input = Noise(Below(256));
    for (uint64_t step = 1 + Below(8); step > 0; --step) Mutate(&input);
    if (input.size() > kMaxInput) input.resize(kMaxInput);
    return input;
  }

 private:
  uint64_t Below(uint64_t bound) { return random_() % bound; }

  Bytes Noise(size_t size) {
    Bytes noise(size);
    for (uint8_t& byte : noise) byte = static_cast<uint8_t>(random_());
    return noise;
  }

  void Mutate(Bytes* input) {
    const size_t at = Below(input->size() + 1);
    const size_t length = std::min<size_t>(Below(16) + 1, input->size() - at);
    switch (Below(7)) {
      case 0:  // Flip a bit.
        if (length) (*input)[at] ^= static_cast<uint8_t>(1u << Below(8));
        break;
      case 1:  // Overwrite by noise.
        for (size_t i = 0; i < length; ++i) (*input)[at + i] = static_cast<uint8_t>(random_());
        break;
      case 2: {  // Overwrite by a number that lengths and counts dislike.
        static constexpr uint64_t kEdges[] = {0, 1, 0x7f, 0xff, 0x7fffffff, 0xffffffff, ~0ull};
        const uint8_t* edge = reinterpret_cast<const uint8_t*>(&kEdges[Below(std::size(kEdges))]);
        std::copy_n(edge, std::min<size_t>(length, size_t{1} << Below(4)), input->begin() + at);
        break;
      }
      case 3: {  // Insert noise.
        const Bytes noise = Noise(1 + Below(16));
        input->insert(input->begin() + at, noise.begin(), noise.end());
        break;
      }
      case 4:  // Erase.
        input->erase(input->begin() + at, input->begin() + at + length);
        break;
      case 5:  // Truncate.
        input->resize(at);
        break;
      case 6: {  // Splice with another of the corpus.
        if (corpus_.empty()) break;
        const Bytes& other = corpus_[Below(corpus_.size())];
        const size_t from = Below(other.size() + 1);
        input->resize(at);
        input->insert(input->end(), other.begin() + from, other.end());
        break;
      }
    }
  }

  std::mt19937_64 random_;
  const std::vector<Bytes>& corpus_;
};

void ReadCorpus(const std::string& folder, std::vector<Bytes>* corpus) {
  std::vector<std::string> paths;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.is_regular_file()) paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());  // The same seed, the same run.
  for (const std::string& path : paths) {
    std::ifstream file(path, std::ios::binary);
    corpus->emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    if (corpus->back().size() > kMaxInput) corpus->back().resize(kMaxInput);
  }
}

}  // namespace

int main(int argc, char** argv) {
  double seconds = 5;
  uint64_t runs = UINT64_MAX;
  uint64_t seed = 1;
  std::vector<Bytes> corpus;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    const std::string value = arg.substr(std::min(arg.size(), arg.find('=') + 1));
    if (arg.rfind("-max_total_time=", 0) == 0) {
      seconds = std::stod(value);
    } else if (arg.rfind("-runs=", 0) == 0) {
      runs = std::stoull(value);
    } else if (arg.rfind("-seed=", 0) == 0) {
      seed = std::stoull(value);
    } else if (arg[0] != '-') {
      ReadCorpus(arg, &corpus);
    }
  }

  InFlight in_flight;
  printf("seed %llu, corpus of %zu; after a crash the input is in %s (8 bytes of size first)\n",
         static_cast<unsigned long long>(seed), corpus.size(), in_flight.path().c_str());
  fflush(stdout);

  for (const Bytes& input : corpus) in_flight.Run(input);
  Mutator mutator(seed, corpus);
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  uint64_t done = 0;
  for (; done < runs && std::chrono::steady_clock::now() < end; ++done) {
    in_flight.Run(mutator.Next());
  }
  printf("%llu inputs, no failure\n", static_cast<unsigned long long>(done));
  return 0;
}
