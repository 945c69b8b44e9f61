// For the kernels' own tests, which run without Python so that sanitizers see every access: threads, data, checks.
#pragma once

#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <thread>
#include <vector>

#include "common/kernel_abi.h"

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

inline std::vector<float> normal(int64_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> distribution;
  std::vector<float> numbers(static_cast<std::size_t>(count));
  for (float& number : numbers) number = distribution(random);
  return numbers;
}

// Padding, tokens and globals at random; `kinds` of 2 gives no global.
inline std::vector<int32_t> random_mask(int64_t count, int kinds, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<int32_t> mask(static_cast<std::size_t>(count));
  for (int32_t& kind : mask) kind = random() % 5 ? 1 : static_cast<int32_t>(random() % static_cast<unsigned>(kinds));
  return mask;
}

// Sizes at the edges of what is allowed and of what an address holds.
inline int64_t hostile_size(std::mt19937& random) {
  static const int64_t sizes[] = {
      0, -1, 1, 3, INT32_MAX, int64_t{INT32_MAX} + 1, INT64_MAX, INT64_MIN, int64_t{1} << 40};
  return sizes[random() % (sizeof sizes / sizeof *sizes)];
}

}  // namespace lat::test
