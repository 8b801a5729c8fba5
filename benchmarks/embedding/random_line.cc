// The machine's own rate of random cache-line reads: the ceiling of any table that is larger than
// the caches and keeps its rows in memory. Built at run time by random_line.py; plain C interface.
//
// Reads are independent and prefetched kAhead ahead, so that the core keeps as many misses in
// flight as it can. Each read touches one word: the line is what the memory system moves.

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

namespace {

// A core has 10 to 20 line-fill buffers (plus what L2 tracks); 32 ahead keeps them full without the
// prefetched lines being evicted from a 32 KiB L1 before use.
constexpr int64_t kAhead = 32;
constexpr size_t kLine = 64;
constexpr size_t kHugePage = size_t{2} << 20;

struct Array {
  char* data;
  size_t bytes;
};

uint64_t ReadRange(const Array& array, const int64_t* ids, int64_t count, int64_t row_bytes) {
  const auto line = [&](int64_t i) {
    return array.data + (static_cast<size_t>(ids[i] * row_bytes) & ~(kLine - 1));
  };
  uint64_t sum = 0;
  for (int64_t i = 0; i < count; ++i) {
    if (i + kAhead < count) __builtin_prefetch(line(i + kAhead), 0, 3);
    uint64_t word;
    std::memcpy(&word, line(i), sizeof(word));
    sum += word;
  }
  return sum;
}

}  // namespace

extern "C" {

// An array of at least `bytes` bytes, every page touched, in huge pages where the kernel gives
// them. Null when memory is refused. The caller owns it and gives it back with random_line_free.
void* random_line_create(int64_t bytes) {
  const size_t rounded = (static_cast<size_t>(bytes) + 2 * kHugePage - 1) & ~(kHugePage - 1);
  void* data = mmap(nullptr, rounded, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) return nullptr;
  madvise(data, rounded, MADV_HUGEPAGE);
  std::memset(data, 1, rounded);
  return new Array{static_cast<char*>(data), rounded};
}

// Reads the line of each row `ids[i]` (0 <= ids[i] < bytes / row_bytes) on `threads` threads, each
// of which takes an equal run of `ids`. Returns a sum, so that no read can be dropped.
uint64_t random_line_read(const void* handle, const int64_t* ids /* (count) */, int64_t count,
                          int64_t row_bytes, int threads) {
  const Array& array = *static_cast<const Array*>(handle);
  std::vector<uint64_t> sums(threads);
  std::vector<std::thread> helpers;
  const auto part = [&](int t) {
    const int64_t begin = count * t / threads;
    sums[t] = ReadRange(array, ids + begin, count * (t + 1) / threads - begin, row_bytes);
  };
  for (int t = 1; t < threads; ++t) helpers.emplace_back(part, t);
  part(0);
  for (std::thread& helper : helpers) helper.join();
  uint64_t sum = 0;
  for (const uint64_t s : sums) sum += s;
  return sum;
}

void random_line_free(void* handle) {
  Array* array = static_cast<Array*>(handle);
  munmap(array->data, array->bytes);
  delete array;
}

}  // extern "C"
