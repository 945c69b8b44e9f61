// Products of numbers that are each the sum of two float16, 22 bits: three products on the matrix units, added up in
// float32.
#pragma once

#include "common/cuda_instructions.cuh"
#include "common/cuda_storage.cuh"
#include "common/mma_layout.h"

namespace lat {

// 2^i such that `largest` times it lies between 2^to and 2^(to + 1); 1 for 0.
__device__ __forceinline__ float scale_to(float largest, int to) {
  if (!(largest > 0.0f)) return 1.0f;
  int exponent;
  frexpf(largest, &exponent);
  exponent = to + 1 - exponent;
  return ldexpf(1.0f, exponent > 120 ? 120 : exponent < -120 ? -120 : exponent);
}

// Two numbers, each the sum of two float16: `high` has 11 bits of each, `low` the next 11.
struct SplitPair {
  uint32_t high, low;

  __device__ __forceinline__ SplitPair(float first, float second) {
    const float of_first = __half2float(__float2half_rn(first)), of_second = __half2float(__float2half_rn(second));
    high = pack<__half>(of_first, of_second);
    low = pack<__half>(first - of_first, second - of_second);
  }
};

// Rows of a warp as left operands of kSteps * 16 columns, in its registers.
template <int kSteps>
class SplitRows {
 public:
  __device__ __forceinline__ explicit SplitRows(float*) {}

  __device__ __forceinline__ void get(int step, uint32_t (&high)[4], uint32_t (&low)[4]) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) high[i] = high_[step][i], low[i] = low_[step][i];
  }
  __device__ __forceinline__ void put(int step, const uint32_t (&high)[4], const uint32_t (&low)[4]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) high_[step][i] = high[i], low_[step][i] = low[i];
  }

 private:
  uint32_t high_[kSteps][4], low_[kSteps][4];
};

// The same in memory, where registers are too few: 16 bytes a lane side by side. Each lane reads what it wrote.
template <int kSteps>
class KeptSplitRows {
 public:
  // `kept` has 1024 * kSteps bytes for each warp.
  __device__ __forceinline__ explicit KeptSplitRows(float* kept)
      : own_(reinterpret_cast<uint4*>(kept) + thread_of_block() / 32 * kSteps * 64 + lane_of_warp()) {}

  __device__ __forceinline__ void get(int step, uint32_t (&high)[4], uint32_t (&low)[4]) const {
    const uint4 first = own_[64 * step], second = own_[64 * step + 32];
    high[0] = first.x, high[1] = first.y, high[2] = first.z, high[3] = first.w;
    low[0] = second.x, low[1] = second.y, low[2] = second.z, low[3] = second.w;
  }
  __device__ __forceinline__ void put(int step, const uint32_t (&high)[4], const uint32_t (&low)[4]) {
    own_[64 * step] = {high[0], high[1], high[2], high[3]};
    own_[64 * step + 32] = {low[0], low[1], low[2], low[3]};
  }

 private:
  uint4* own_;
};

// Sums of 16 x 8 as mma.sync leaves them become left operands.
template <int kSteps, class Rows>
__device__ __forceinline__ void put_sums(Rows& rows, const float (&sum)[2 * kSteps][4], float factor) {
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    uint32_t high[4], low[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float* const from = sum[2 * step + i / 2] + 2 * (i % 2);
      const SplitPair pair(from[0] * factor, from[1] * factor);
      high[i] = pair.high;
      low[i] = pair.low;
    }
    rows.put(step, high, low);
  }
}

// sum[16 x kColumns] = left[16 x 16 kSteps] right, whose rows lie swizzled at `right`, and their low halves behind
// them. `left(step, high, low)` gives the left operand.
template <int kSteps, int kColumns, class Left>
__device__ __forceinline__ void multiply_split(float (&sum)[kColumns / 8][4], uint32_t right, Left left) {
  constexpr uint32_t kRowBytes = 2 * kColumns, kBytes = 16 * kSteps * kRowBytes;
  const Place place = place_by_columns(lane_of_warp());
  right += swizzled<kColumns>(place.row, place.chunk);
#pragma unroll
  for (int column = 0; column < kColumns / 8; ++column)
#pragma unroll
    for (int i = 0; i < 4; ++i) sum[column][i] = 0.0f;
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    uint32_t high[4], low[4];
    left(step, high, low);
#pragma unroll
    for (int pair = 0; pair < kColumns / 16; ++pair) {
      uint32_t right_high[4], right_low[4];
      const uint32_t at = pairs_further(right, pair) + step * 16 * kRowBytes;
      load_matrices_transposed(right_high, at);
      load_matrices_transposed(right_low, at + kBytes);
      multiply_add<__half>(sum[2 * pair], low, right_high[0], right_high[1]);
      multiply_add<__half>(sum[2 * pair + 1], low, right_high[2], right_high[3]);
      multiply_add<__half>(sum[2 * pair], high, right_low[0], right_low[1]);
      multiply_add<__half>(sum[2 * pair + 1], high, right_low[2], right_low[3]);
      multiply_add<__half>(sum[2 * pair], high, right_high[0], right_high[1]);
      multiply_add<__half>(sum[2 * pair + 1], high, right_high[2], right_high[3]);
    }
  }
}

}  // namespace lat
