// Small matrix products in float32, for operands that are already in cache: a block of rows x vectors in registers.
#pragma once

#include "common/block_vector.h"

namespace lat::LAT_ARCH {

// A block in registers: kBlockRows x kBlockVectors sums, kBlockVectors of the right matrix and one of the left.
#if defined(__AVX512F__)
inline constexpr int kBlockRows = 6, kBlockVectors = 4;  // 24 of 32 registers
#elif defined(__aarch64__)
inline constexpr int kBlockRows = 6, kBlockVectors = 4;
#elif defined(__AVX2__)
inline constexpr int kBlockRows = 6, kBlockVectors = 2;  // 12 of 16
#else
inline constexpr int kBlockRows = 4, kBlockVectors = 2;  // no fused product, which takes one register more
#endif

// Left matrix (m, k) with any strides, so also a transposed one: element (i, p) is at data[i * row + p * column].
struct Left {
  const float* data;
  int64_t row, column;
};

// Right matrix or result, rows of whole vectors: `stride` floats from row to row, at least the rounded-up width.
struct Right {
  const float* data;
  int64_t stride;
};
struct Result {
  float* data;
  int64_t stride;
};

enum class Start { kZero, kResult };

template <int kRows, int kVectors, Start kStart>
inline void multiply_block(int64_t k, Left left, Right right, Result result) {
  Vec sums[kRows][kVectors];
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; ++j) {
      sums[i][j] = kStart == Start::kZero ? Vec{} : load(result.data + i * result.stride + j * kLanes);
    }
  }
  const float* row = right.data;
  const float* element = left.data;
  for (int64_t p = 0; p < k; ++p, row += right.stride, element += left.column) {
    Vec across[kVectors];
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; ++j) across[j] = load(row + j * kLanes);
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
      const Vec down = splat(element[i * left.row]);
#pragma GCC unroll 8
      for (int j = 0; j < kVectors; ++j) sums[i][j] += down * across[j];
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; ++j) store(result.data + i * result.stride + j * kLanes, sums[i][j]);
  }
}

template <int kVectors, Start kStart>
inline void multiply_columns(int64_t m, int64_t k, Left left, Right right, Result result) {
  int64_t i = 0;
  for (; i + kBlockRows <= m; i += kBlockRows) {
    multiply_block<kBlockRows, kVectors, kStart>(k, {left.data + i * left.row, left.row, left.column}, right,
                                                 {result.data + i * result.stride, result.stride});
  }
  const Left rest{left.data + i * left.row, left.row, left.column};
  const Result to{result.data + i * result.stride, result.stride};
  switch (m - i) {
    case 5:
      return multiply_block<5, kVectors, kStart>(k, rest, right, to);
    case 4:
      return multiply_block<4, kVectors, kStart>(k, rest, right, to);
    case 3:
      return multiply_block<3, kVectors, kStart>(k, rest, right, to);
    case 2:
      return multiply_block<2, kVectors, kStart>(k, rest, right, to);
    case 1:
      return multiply_block<1, kVectors, kStart>(k, rest, right, to);
    default:
      return;
  }
}

// result (m, n) = left (m, k) x right (k, n), or grows by it. n is a multiple of kLanes. Each element is summed in the
// order of k with nothing in between, so no cut of m or n changes a bit.
template <Start kStart>
inline void multiply(int64_t m, int64_t n, int64_t k, Left left, Right right, Result result) {
  constexpr int64_t kBlock = kBlockVectors * kLanes;
  int64_t j = 0;
  for (; j + kBlock <= n; j += kBlock) {
    multiply_columns<kBlockVectors, kStart>(m, k, left, {right.data + j, right.stride},
                                            {result.data + j, result.stride});
  }
  for (; j < n; j += kLanes) {
    multiply_columns<1, kStart>(m, k, left, {right.data + j, right.stride}, {result.data + j, result.stride});
  }
}

}  // namespace lat::LAT_ARCH
