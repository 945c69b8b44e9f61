// For the kernels' own tests, which run without Python so that sanitizers see every access: data, threads, and the
// checks that are the same for every op. What differs is a Subject.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <random>
#include <thread>
#include <vector>

#include "common/kernel_abi.h"
#include "common/memory.h"

namespace lat::test {

inline void demand(bool holds, const char* what, const char* message = "") {
  if (holds) return;
  std::fprintf(stderr, "failed: %s %s\n", what, message);
  std::exit(1);
}

// Tasks on as many threads as `pool` points at, each taking the next.
inline void run_on_threads(void* pool, int64_t count, lat_task task, void* context) {
  std::atomic<int64_t> next{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < *static_cast<int*>(pool); ++i)
    threads.emplace_back([&] {
      for (int64_t index = next++; index < count; index = next++) task(context, index);
    });
  for (std::thread& thread : threads) thread.join();
}

inline int64_t between(std::mt19937& random, int64_t least, int64_t most) {
  return least + static_cast<int64_t>(random() % static_cast<uint64_t>(most - least + 1));
}

inline std::vector<float> normal(int64_t count, unsigned seed, float size = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<float> distribution(0, size);
  std::vector<float> numbers(static_cast<std::size_t>(count));
  for (float& number : numbers) number = distribution(random);
  return numbers;
}

// Mostly tokens, else one of the first `kinds` of padding, token and global at random.
inline std::vector<int32_t> random_mask(int64_t count, int kinds, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<int32_t> mask(static_cast<std::size_t>(count));
  for (int32_t& kind : mask) kind = random() % 5 ? 1 : static_cast<int32_t>(random() % static_cast<unsigned>(kinds));
  return mask;
}

// Rows [B, N, E] of float32 with gaps between them, and not a number behind the last.
struct Tensor {
  Tensor(int64_t batch, int64_t tokens, int64_t width, unsigned seed, float size = 1)
      : row_stride(width + 3),
        batch_stride(tokens * row_stride + 5),
        data(normal((batch - 1) * batch_stride + (tokens - 1) * row_stride + width, seed, size)) {}

  lat_rows rows() { return {data.data(), batch_stride, row_stride}; }
  const float* row(int64_t b, int64_t i) const { return data.data() + b * batch_stride + i * row_stride; }
  double at(int64_t b, int64_t i, int64_t e) const { return static_cast<double>(row(b, i)[e]); }

  int64_t row_stride, batch_stride;
  std::vector<float> data;
};

template <class Args>
using Entry = void (*)(const Args*, const lat_parallel*, lat_status*);

// The call on the caller's thread alone, and on 1 and 4 others: the same bits. `output` is what args.output points at.
template <class Args>
void call_on_threads(Entry<Args> entry, const Args& args, std::vector<float>& output) {
  std::vector<float> first;
  for (int threads : {0, 1, 4}) {
    std::fill(output.begin(), output.end(), NAN);
    const lat_parallel parallel{run_on_threads, &threads, threads};
    lat_status status;
    entry(&args, threads == 0 ? nullptr : &parallel, &status);
    demand(status.code == LAT_OK, "status", status.message);
    if (threads == 0) first = output;
    demand(std::memcmp(first.data(), output.data(), first.size() * sizeof(float)) == 0, "same bits on any threads");
  }
}

// Every allocation of a call fails in its turn: that is told, and nothing is written.
template <class Args>
void call_without_memory(Entry<Args> entry, const Args& args, std::vector<float>& output) {
  for (int64_t before = 0;; ++before) {
    std::fill(output.begin(), output.end(), 7.0f);
    lat_status status;
    fail_allocation_after(before);
    entry(&args, nullptr, &status);
    fail_allocation_after(-1);
    if (status.code == LAT_OK) {
      demand(before >= 2, "a call without an allocation");
      return;
    }
    demand(status.code == LAT_NO_MEMORY && status.message[0] != 0, "no memory", status.message);
    for (const float number : output) demand(number == 7.0f, "written without memory");
  }
}

// Arrays of exactly the size that a call may touch.
class Arrays {
 public:
  char* bytes(int64_t count) {
    all_.emplace_back(static_cast<std::size_t>(count));
    return all_.back().data();
  }

  // Numbers of a storage type, none beyond 2 in 16 bits.
  void* numbers(int32_t dtype, int64_t count, std::mt19937& random) {
    char* data = bytes(count * (dtype == LAT_FLOAT32 ? 4 : 2));
    for (int64_t i = 0; i < count; ++i) {
      const uint32_t bits = static_cast<uint32_t>(random());
      if (dtype == LAT_FLOAT32) {
        const float number = static_cast<float>(static_cast<int32_t>(bits)) * 0x1p-30f;
        std::memcpy(data + 4 * i, &number, 4);
      } else {
        const uint16_t number =
            static_cast<uint16_t>(dtype == LAT_FLOAT16 ? (bits & 0x83ff) | (10 + (bits >> 16) % 6) << 10
                                                       : (bits & 0x807f) | (122 + (bits >> 16) % 6) << 7);
        std::memcpy(data + 2 * i, &number, 2);
      }
    }
    return data;
  }

 private:
  std::deque<std::vector<char>> all_;
};

// What a random call of one op needs to know.
template <class Args>
struct Subject {
  Entry<Args> entry;
  std::vector<lat_rows*> (*inputs)(Args&);
  // Sets attributes and weights that are sound for the sizes and the type that are there.
  void (*complete)(Args&, Arrays&, std::mt19937&);
  // Whatever of the op's own a caller may get wrong.
  std::vector<int64_t*> (*sizes)(Args&);
  std::vector<int32_t*> (*flags)(Args&);
  std::vector<const void**> (*pointers)(Args&);
  int kinds;  // of tokens: 3 where global tokens are a kind of their own
};

// A call with random sizes, type, strides and mask, each array exactly as long as it must be.
template <class Args>
struct RandomCall {
  RandomCall(const Subject<Args>& subject, std::mt19937& random) {
    args.batch = between(random, 1, 3);
    args.num_heads = between(random, 1, 3);
    args.width = args.num_heads * between(random, 1, 40);
    args.tokens = between(random, 1, random() % 4 ? 40 : 300);
    args.dtype = static_cast<int32_t>(random() % 3);
    const auto strides = [&](lat_rows& rows) {
      rows.row_stride = args.width + between(random, 0, 5);
      rows.batch_stride = args.tokens * rows.row_stride + between(random, 0, 9);
      return (args.batch - 1) * rows.batch_stride + (args.tokens - 1) * rows.row_stride + args.width;
    };
    for (lat_rows* rows : subject.inputs(args)) {
      const int64_t count = strides(*rows);
      rows->data = arrays.numbers(args.dtype, count, random);
    }
    output_bytes = strides(args.output) * number_bytes();
    args.output.data = arrays.bytes(output_bytes);
    mask = random_mask(args.batch * args.tokens, subject.kinds, static_cast<unsigned>(random()));
    args.attention_mask = mask.data();
    subject.complete(args, arrays, random);
  }

  int64_t number_bytes() const { return args.dtype == LAT_FLOAT32 ? 4 : 2; }

  lat_status call(const Subject<Args>& subject, int threads) {
    const lat_parallel parallel{run_on_threads, &threads, threads};
    lat_status status;
    std::memset(&status, 1, sizeof status);
    subject.entry(&args, threads == 0 ? nullptr : &parallel, &status);
    return status;
  }

  std::vector<char> fresh() {
    std::memset(args.output.data, kUntouched, static_cast<std::size_t>(output_bytes));
    return std::vector<char>(static_cast<std::size_t>(output_bytes), static_cast<char>(kUntouched));
  }

  std::vector<char> written(void* output) const {
    const char* data = static_cast<const char*>(output);
    return std::vector<char>(data, data + output_bytes);
  }

  // Every number of the rows is finite, and every byte between them is as it was.
  void check_output() const {
    const char* data = static_cast<const char*>(args.output.data);
    std::vector<bool> of_row(static_cast<std::size_t>(output_bytes));
    for (int64_t b = 0; b < args.batch; ++b)
      for (int64_t i = 0; i < args.tokens; ++i)
        for (int64_t e = 0; e < args.width; ++e) {
          const int64_t at = (b * args.output.batch_stride + i * args.output.row_stride + e) * number_bytes();
          for (int64_t byte = 0; byte < number_bytes(); ++byte) of_row[static_cast<std::size_t>(at + byte)] = true;
          uint32_t bits = 0;
          std::memcpy(&bits, data + at, static_cast<std::size_t>(number_bytes()));
          const uint32_t exponent = args.dtype == LAT_FLOAT32   ? 0x7f800000
                                    : args.dtype == LAT_FLOAT16 ? 0x7c00
                                                                : 0x7f80;
          demand((bits & exponent) != exponent, "a number that is not finite");
        }
    for (std::size_t at = 0; at < of_row.size(); ++at)
      demand(of_row[at] || static_cast<unsigned char>(data[at]) == kUntouched, "written between rows");
  }

  static constexpr unsigned char kUntouched = 0xab;

  Args args{};
  Arrays arrays;
  std::vector<int32_t> mask;
  int64_t output_bytes = 0;
};

// Sizes at the edges of what is allowed and of what an address holds.
inline int64_t hostile_size(std::mt19937& random) {
  static const int64_t sizes[] = {
      0, -1, 1, 3, INT32_MAX, int64_t{INT32_MAX} + 1, INT64_MAX, INT64_MIN, INT64_MAX / 2, int64_t{1} << 40};
  return sizes[random() % (sizeof sizes / sizeof *sizes)];
}

// Makes a sound call one that must be refused: the mask is missing, which is looked at last, or a type or a pointer is
// wrong; and any number of sizes, strides and attributes are hostile as well.
template <class Args>
void spoil(const Subject<Args>& subject, Args& args, std::mt19937& random) {
  std::vector<int64_t*> sizes{
      &args.batch, &args.tokens, &args.width, &args.num_heads, &args.output.batch_stride, &args.output.row_stride};
  std::vector<lat_rows*> rows = subject.inputs(args);
  for (lat_rows* one : rows) sizes.insert(sizes.end(), {&one->batch_stride, &one->row_stride});
  const std::vector<int64_t*> own = subject.sizes(args);
  sizes.insert(sizes.end(), own.begin(), own.end());
  for (int64_t changes = between(random, 0, 4); changes > 0; --changes)
    *sizes[random() % sizes.size()] = hostile_size(random);
  for (int32_t* flag : subject.flags(args))
    if (random() % 8 == 0) *flag = static_cast<int32_t>(hostile_size(random));
  rows.push_back(&args.output);
  const std::vector<const void**> pointers = subject.pointers(args);
  switch (random() % 4) {
    case 0:
      args.dtype = random() % 2 ? 3 : static_cast<int32_t>(random() | 0x80000000u);
      return;
    case 1:
      rows[random() % rows.size()]->data = nullptr;
      return;
    case 2:
      if (!pointers.empty()) {
        *pointers[random() % pointers.size()] = nullptr;
        return;
      }
      [[fallthrough]];
    default:
      args.attention_mask = nullptr;
  }
}

// Random calls, the same ones in every run: sound ones are computed, on any threads to the same bits, and touch nothing
// but their arrays; spoilt ones are refused with a message, and write nothing.
template <class Args>
void call_at_random(const Subject<Args>& subject, int64_t calls) {
  std::mt19937 random(5);
  for (int64_t index = 0; index < calls; ++index) {
    RandomCall<Args> call(subject, random);
    const std::vector<char> fresh = call.fresh();
    if (index % 20 == 0) {
      const lat_status status = call.call(subject, 0);
      demand(status.code == LAT_OK && status.message[0] == 0, "a sound call", status.message);
      call.check_output();
      const std::vector<char> alone = call.written(call.args.output.data);
      call.fresh();
      demand(call.call(subject, 3).code == LAT_OK, "a sound call on threads");
      demand(call.written(call.args.output.data) == alone, "same bits on 3 threads");
      continue;
    }
    void* output = call.args.output.data;
    spoil(subject, call.args, random);
    const lat_status status = call.call(subject, 0);
    demand(status.code == LAT_BAD_ARGUMENT && std::memchr(status.message, 0, sizeof status.message), "refused");
    demand(std::strstr(status.message, ": got ") && std::strstr(status.message, "expected "), "told", status.message);
    demand(call.written(output) == fresh, "written before it was refused");
  }
}

// How many random calls: the first argument of a test, else so many that a test takes seconds.
inline int64_t calls_of(int count, char** arguments) { return count > 1 ? std::atoll(arguments[1]) : 4000; }

}  // namespace lat::test
