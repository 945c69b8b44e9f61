// Sums of 16 rows, as the matrix units leave them in the registers of a warp, from and to rows in memory on 16 bytes.
#pragma once

#include "common/cuda_instructions.cuh"
#include "common/cuda_storage.cuh"
#include "common/mma_layout.h"

namespace lat {

// Four neighbouring lanes hold a 4 x 4 matrix of words, each one column; then each holds one row.
__device__ __forceinline__ void transpose_of_4_lanes(uint32_t (&word)[4]) {
  const int lane = lane_of_warp();
#pragma unroll
  for (int at = 0; at < 4; at += 2) {
    const bool odd = (lane & 1) != 0;
    const uint32_t got = __shfl_xor_sync(0xffffffff, odd ? word[at] : word[at + 1], 1);
    if (odd)
      word[at] = got;
    else
      word[at + 1] = got;
  }
#pragma unroll
  for (int at = 0; at < 2; ++at) {
    const bool high = (lane & 2) != 0;
    const uint32_t got = __shfl_xor_sync(0xffffffff, high ? word[at] : word[at + 2], 2);
    if (high)
      word[at] = got;
    else
      word[at + 2] = got;
  }
}

// `to` is the first number of row 0; `rows` of the 16 are there. 16 bytes a lane, and all of a sector at once, but with
// 16 columns. All lanes of the warp must call it together.
template <class Element, int kColumns>
__device__ __forceinline__ void write_sums(Element* to, int64_t stride, int64_t rows,
                                           const float (&sum)[kColumns / 8][4]) {
  const int lane = lane_of_warp(), place = lane % 4;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = sum_row(lane, 2 * half);
    Element* const at = to + row * stride;
    if constexpr (kColumns >= 32) {
#pragma unroll
      for (int four = 0; four < kColumns / 32; ++four) {
        uint32_t word[4];
#pragma unroll
        for (int i = 0; i < 4; ++i)
          word[i] = pack<Element>(sum[4 * four + i][2 * half], sum[4 * four + i][2 * half + 1]);
        transpose_of_4_lanes(word);
        if (row < rows) *reinterpret_cast<uint4*>(at + 32 * four + 8 * place) = {word[0], word[1], word[2], word[3]};
      }
    } else if (row < rows) {
#pragma unroll
      for (int column = 0; column < kColumns / 8; ++column)
        *reinterpret_cast<uint32_t*>(at + 8 * column + 2 * place) =
            pack<Element>(sum[column][2 * half], sum[column][2 * half + 1]);
    }
  }
}

// Rows that are not there become zeros.
template <class Element, int kColumns>
__device__ __forceinline__ void read_sums(float (&sum)[kColumns / 8][4], const Element* from, int64_t stride,
                                          int64_t rows) {
  const int lane = lane_of_warp();
#pragma unroll
  for (int column = 0; column < kColumns / 8; ++column)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int row = sum_row(lane, i);
      sum[column][i] = row < rows ? to_float(from[row * stride + 8 * column + sum_column(lane, i)]) : 0.0f;
    }
}

}  // namespace lat
