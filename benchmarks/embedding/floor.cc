// The memory work that no hash table can be without: what any table whose rows lie in memory has to
// read and write for a batch, and nothing else. Built at run time by floor.py; plain C interface.
//
// For each key: one line of an index, then the row's lines, both at places that a hash chose, with
// the row's address known only when the index line is there. No key is compared, nothing is locked,
// counted or checked, and nobody is kept from a row that another thread writes (the values are
// never used). Index lines are prefetched kIndexAhead keys ahead and rows kRowAhead.

#include <immintrin.h>
#include <sys/mman.h>

#include <algorithm>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace {

constexpr int64_t kIndexAhead = 32;
constexpr int64_t kRowAhead = 16;
constexpr size_t kLine = 64;
constexpr size_t kHugePage = size_t{2} << 20;
// Batches and tables from which rows are written around the cache: the faster way, measured.
constexpr size_t kStreamBatch = size_t{1} << 20;
constexpr size_t kStreamTable = size_t{32} << 20;

// Helpers that live as long as the table: starting a thread would cost more than a small batch.
class Pool {
 public:
  explicit Pool(int threads) : threads_(threads) {
    for (int t = 1; t < threads; ++t) helpers_.emplace_back([this, t] { Help(t); });
  }
  ~Pool() {
    {
      std::lock_guard<std::mutex> lock(mu_);
      stop_ = true;
    }
    begin_.notify_all();
    for (std::thread& helper : helpers_) helper.join();
  }

  // part(begin, end) on each thread, for equal runs of 0 ... count - 1.
  void Run(int64_t count, const std::function<void(int64_t, int64_t)>& part) {
    const auto run = [&](int t) { part(count * t / threads_, count * (t + 1) / threads_); };
    {
      std::lock_guard<std::mutex> lock(mu_);
      run_ = run;
      left_ = threads_ - 1;
      ++round_;
    }
    begin_.notify_all();
    run(0);
    std::unique_lock<std::mutex> lock(mu_);
    end_.wait(lock, [&] { return left_ == 0; });
  }

 private:
  void Help(int t) {
    int64_t seen = 0;
    std::unique_lock<std::mutex> lock(mu_);
    for (;;) {
      begin_.wait(lock, [&] { return stop_ || round_ != seen; });
      if (stop_) return;
      seen = round_;
      const std::function<void(int)> run = run_;
      lock.unlock();
      run(t);
      lock.lock();
      if (--left_ == 0) end_.notify_one();
    }
  }

  const int threads_;
  std::mutex mu_;
  std::condition_variable begin_, end_;
  std::function<void(int)> run_;
  int64_t round_ = 0;
  int left_ = 0;
  bool stop_ = false;
  std::vector<std::thread> helpers_;
};

char* HugePages(size_t bytes) {
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) return nullptr;
  madvise(data, bytes, MADV_HUGEPAGE);
  std::memset(data, 0, bytes);
  return static_cast<char*>(data);
}

size_t Rounded(size_t bytes) { return (bytes + 2 * kHugePage - 1) & ~(kHugePage - 1); }

struct Floor {
  Floor(int64_t rows_in, int64_t vector_bytes_in, int64_t body_bytes_in, int64_t index_bytes,
        int threads)
      : vector_bytes(vector_bytes_in),
        body_bytes(body_bytes_in),
        index_lines(std::max<size_t>(1, index_bytes / kLine)),
        index_size(Rounded(index_bytes)),
        rows_size(Rounded(rows_in * body_bytes_in)),
        index(HugePages(index_size)),
        rows(HugePages(rows_size)),
        pool(threads) {}
  ~Floor() {
    if (index != nullptr) munmap(index, index_size);
    if (rows != nullptr) munmap(rows, rows_size);
  }

  const char* IndexLine(int64_t id) const {
    const uint64_t hash = static_cast<uint64_t>(id) * 0x9E3779B97F4A7C15ull;
    return index + ((hash >> 32) * index_lines >> 32) * kLine;
  }
  // The row, by way of the index, all of whose words are zero.
  char* Row(int64_t id) const {
    int64_t word;
    std::memcpy(&word, IndexLine(id), sizeof(word));
    return rows + static_cast<size_t>(id + word) * body_bytes;
  }

  // use(i, row) for keys begin ... end - 1, `prefetched` bytes of each row being under way.
  template <typename Use>
  void Visit(const int64_t* ids, int64_t begin, int64_t end, size_t prefetched,
             const Use& use) const {
    char* ring[kRowAhead];
    for (int64_t i = begin - kIndexAhead; i < end; ++i) {
      if (i + kIndexAhead < end) __builtin_prefetch(IndexLine(ids[i + kIndexAhead]));
      char* const row = i >= begin ? ring[i % kRowAhead] : nullptr;
      const int64_t coming = i + kRowAhead;
      if (coming >= begin && coming < end) {
        char* const next = ring[coming % kRowAhead] = Row(ids[coming]);
        for (size_t at = 0; at < prefetched; at += kLine) __builtin_prefetch(next + at);
      }
      if (row != nullptr) use(i, row);
    }
  }

  const size_t vector_bytes;
  const size_t body_bytes;
  const size_t index_lines;
  const size_t index_size;
  const size_t rows_size;
  char* const index;
  char* const rows;
  Pool pool;
};

// Both aligned to 16 bytes; bytes a multiple of 16.
void Stream(char* to, const char* from, size_t bytes) {
  for (size_t at = 0; at < bytes; at += 16) {
    _mm_stream_si128(reinterpret_cast<__m128i*>(to + at),
                     _mm_load_si128(reinterpret_cast<const __m128i*>(from + at)));
  }
}

bool Streams(const void* a, size_t bytes, int64_t count) {
  return reinterpret_cast<uintptr_t>(a) % 16 == 0 && bytes % 16 == 0 &&
         count * bytes >= kStreamBatch;
}

}  // namespace

extern "C" {

// A table of `rows` bodies (vector and slots) and an index of `index_bytes`. Null when memory is
// refused. The caller owns it and gives it back with floor_free.
void* floor_create(int64_t rows, int64_t vector_bytes, int64_t body_bytes, int64_t index_bytes,
                   int threads) {
  Floor* floor = new Floor(rows, vector_bytes, body_bytes, index_bytes, threads);
  if (floor->index != nullptr && floor->rows != nullptr) return floor;
  delete floor;
  return nullptr;
}

void floor_free(void* handle) { delete static_cast<Floor*>(handle); }

// Copies the vectors of ids (count, each below the number of rows) to out (count, vector).
void floor_lookup(void* handle, const int64_t* ids, int64_t count, char* out) {
  Floor& floor = *static_cast<Floor*>(handle);
  const size_t bytes = floor.vector_bytes;
  const bool stream = Streams(out, bytes, count);
  floor.pool.Run(count, [&](int64_t begin, int64_t end) {
    floor.Visit(ids, begin, end, bytes, [&](int64_t i, const char* row) {
      if (stream) {
        Stream(out + i * bytes, row, bytes);
      } else {
        std::memcpy(out + i * bytes, row, bytes);
      }
    });
    if (stream) _mm_sfence();
  });
}

// Writes values (count, vector) to the vectors of ids.
void floor_upsert(void* handle, const int64_t* ids, int64_t count, const char* values) {
  Floor& floor = *static_cast<Floor*>(handle);
  const size_t bytes = floor.vector_bytes;
  const bool stream = Streams(values, bytes, count) && floor.rows_size >= kStreamTable;
  floor.pool.Run(count, [&](int64_t begin, int64_t end) {
    floor.Visit(ids, begin, end, stream ? 0 : bytes, [&](int64_t i, char* row) {
      if (stream) {
        Stream(row, values + i * bytes, bytes);
      } else {
        std::memcpy(row, values + i * bytes, bytes);
      }
    });
    if (stream) _mm_sfence();
  });
}

// Reads and writes vector and two slots of ids, with gradients (count, vector): Adam's traffic,
// without its square roots. Bodies hold three vectors of floats.
void floor_apply(void* handle, const int64_t* ids, int64_t count, const float* gradients) {
  Floor& floor = *static_cast<Floor*>(handle);
  const int64_t dim = static_cast<int64_t>(floor.vector_bytes / sizeof(float));
  floor.pool.Run(count, [&](int64_t begin, int64_t end) {
    floor.Visit(ids, begin, end, floor.body_bytes, [&](int64_t i, char* body) {
      float* const row = reinterpret_cast<float*>(body);
      const float* const g = gradients + i * dim;
      for (int64_t d = 0; d < dim; ++d) {
        row[dim + d] += g[d];
        row[2 * dim + d] += g[d] * g[d];
        row[d] -= row[dim + d];
      }
    });
  });
}

}  // extern "C"
