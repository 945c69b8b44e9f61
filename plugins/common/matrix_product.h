// The one matrix product under every kernel, for operands that are in cache: C (+)= A B in float32.
//
// B and C have rows of whole vectors, so nothing needs a sum across lanes; A is read as scalars from wherever it lies,
// transposed or not, so nothing is packed. A tile of C stays in registers for the whole sum: 24 vectors of AVX-512's
// and NEON's 32, 12 of 16.
#pragma once

#include "common/vector.h"

namespace lat::LAT_ARCH {

// Element (i, p) is data[i * row + p * column].
struct Left {
  const float* data;
  int64_t row, column;
};
// `stride` floats from row to row.
struct Right {
  const float* data;
  int64_t stride;
};
struct Result {
  float* data;
  int64_t stride;
};

enum class Sum { set, add };

// Vectors of a tile, and its rows: more of them where it is narrow, as an addition takes four cycles.
inline constexpr int kTileVectors = kRegisters == 32 ? 4 : 2;
constexpr int tile_rows(int vectors) { return (kRegisters == 32 ? 24 : 12) / (vectors == 1 ? 2 : vectors); }

template <int kRows, int kVectors, Sum kSum>
inline __attribute__((always_inline)) void multiply_tile(int64_t k, Left left, Right right, Result result) {
  Vector sum[kRows][kVectors];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sum[i][v] = Vector{};
  const float *row = right.data, *column = left.data;
  for (int64_t p = 0; p < k; ++p, row += right.stride, column += left.column) {
    Vector across[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) across[v] = load(row + v * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      const Vector down = splat(column[i * left.row]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[i][v] += down * across[v];
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      float* to = result.data + i * result.stride + v * kLanes;
      // The sum of this call is made first: long sums in pieces err less than in one chain.
      store(to, kSum == Sum::add ? load(to) + sum[i][v] : sum[i][v]);
    }
}

// The last m rows, fewer than a tile has.
template <int kRows, int kVectors, Sum kSum>
inline void multiply_rest(int64_t m, int64_t k, Left left, Right right, Result result) {
  if constexpr (kRows > 0) {
    if (m == kRows)
      multiply_tile<kRows, kVectors, kSum>(k, left, right, result);
    else
      multiply_rest<kRows - 1, kVectors, kSum>(m, k, left, right, result);
  }
}

template <int kVectors, Sum kSum>
void multiply_columns(int64_t m, int64_t k, Left left, Right right, Result result) {
  constexpr int kRows = tile_rows(kVectors);
  int64_t i = 0;
  for (; i + kRows <= m; i += kRows)
    multiply_tile<kRows, kVectors, kSum>(k, {left.data + i * left.row, left.row, left.column}, right,
                                         {result.data + i * result.stride, result.stride});
  multiply_rest<kRows - 1, kVectors, kSum>(m - i, k, {left.data + i * left.row, left.row, left.column}, right,
                                           {result.data + i * result.stride, result.stride});
}

// C (m, n) = A (m, k) B (k, n), or grows by it; n is a multiple of kLanes. Each element is summed in the order of k
// with nothing in between, so no cut of m or n changes a bit.
template <Sum kSum>
inline void multiply(int64_t m, int64_t n, int64_t k, Left left, Right right, Result result) {
  constexpr int64_t kTile = kTileVectors * kLanes;
  int64_t j = 0;
  for (; j + kTile <= n; j += kTile)
    multiply_columns<kTileVectors, kSum>(m, k, left, {right.data + j, right.stride}, {result.data + j, result.stride});
  right.data += j;
  result.data += j;
  switch ((n - j) / kLanes) {
    case 1:
      return multiply_columns<1, kSum>(m, k, left, right, result);
    case 2:
      return multiply_columns<2, kSum>(m, k, left, right, result);
    case 3:
      return multiply_columns<3, kSum>(m, k, left, right, result);
    default:
      return;
  }
}

}  // namespace lat::LAT_ARCH
