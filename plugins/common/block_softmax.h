// Softmax over the rows of a small matrix in cache.
#pragma once

#include "common/block_math.h"

namespace lat::LAT_ARCH {

// row[i] = exp(row[i] - largest) for i < count, 0 up to the next whole vector; returns their sum.
inline float exponentials_of_row(float* row, int64_t count) {
  const int64_t padded = round_up(count, kLanes);
  for (int64_t i = count; i < padded; ++i) row[i] = -__builtin_inff();
  Vec most = load(row);
  for (int64_t i = kLanes; i < padded; i += kLanes) most = maximum(most, load(row + i));
  const Vec largest = splat(largest_lane(most));
  Vec sum{};
  for (int64_t i = 0; i < padded; i += kLanes) {
    const Vec e = exp_of_nonpositive(load(row + i) - largest);
    store(row + i, e);
    sum += e;
  }
  return sum_of_lanes(sum);
}

inline void scale_row(float* row, int64_t padded, float factor) {
  for (int64_t i = 0; i < padded; i += kLanes) store(row + i, load(row + i) * factor);
}

}  // namespace lat::LAT_ARCH
