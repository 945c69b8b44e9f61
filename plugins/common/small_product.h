// C[m][r] (+)= sum_k A[m][k] B[k][r] for r below 64, float32: the one matrix product under every kernel.
//
// B and C have rows of 64 numbers (`kRows` rows of queries, say, lie across the lanes), so that nothing needs a
// horizontal sum and A is read as scalars from wherever it lies, transposed or not: no packing of keys or values.
// Registers: a tile of C, M rows by V vectors, stays in them for the whole sum: 24 of AVX-512's and NEON's 32, 12
// of 16.
#pragma once

#include "common/vector.h"

namespace lat::LAT_ARCH {

constexpr int kRows = 64;

template <int M, int V, bool UnitColumn, bool Add>
inline __attribute__((always_inline)) void product_tile(const float* a, int64_t stride, const float* b, int64_t count,
                                                        float* c, int64_t c_stride) {
  Vector sum[M][V];
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) sum[m][v] = Vector{};
  for (int64_t k = 0; k < count; ++k) {
    Vector right[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) right[v] = load(b + k * kRows + v * kLanes);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
      const Vector left = splat(UnitColumn ? a[m * stride + k] : a[k * stride + m]);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[m][v] += left * right[v];
    }
  }
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      float* to = c + m * c_stride + v * kLanes;
      // The sum of this call is made first: long sums in pieces err less than in one chain.
      store(to, Add ? load(to) + sum[m][v] : sum[m][v]);
    }
}

// The last m < M rows of A.
template <int M, int V, bool UnitColumn, bool Add>
inline void product_rest(int64_t m, const float* a, int64_t stride, const float* b, int64_t count, float* c,
                         int64_t c_stride) {
  if constexpr (M > 0) {
    if (m == M)
      product_tile<M, V, UnitColumn, Add>(a, stride, b, count, c, c_stride);
    else
      product_rest<M - 1, V, UnitColumn, Add>(m, a, stride, b, count, c, c_stride);
  }
}

template <int V, bool UnitColumn, bool Add>
void product_columns(int64_t m, const float* a, int64_t stride, const float* b, int64_t count, float* c,
                     int64_t c_stride) {
  constexpr int M = (kRegisters == 32 ? 24 : 12) / V > 12 ? 12 : (kRegisters == 32 ? 24 : 12) / V;
  const int64_t step = UnitColumn ? stride : 1;
  int64_t at = 0;
  for (; at + M <= m; at += M)
    product_tile<M, V, UnitColumn, Add>(a + at * step, stride, b, count, c + at * c_stride, c_stride);
  product_rest<M - 1, V, UnitColumn, Add>(m - at, a + at * step, stride, b, count, c + at * c_stride, c_stride);
}

// Vectors of B that one tile takes: all four of a row where registers allow it.
constexpr int kTileVectors = kRegisters == 32 ? 4 : 2;

// The first `vectors` vectors of every row of C.
template <bool UnitColumn, bool Add>
inline void product(int64_t m, const float* a, int64_t stride, const float* b, int64_t count, float* c,
                    int64_t c_stride, int vectors) {
  int v = 0;
  for (; v + kTileVectors <= vectors; v += kTileVectors)
    product_columns<kTileVectors, UnitColumn, Add>(m, a, stride, b + v * kLanes, count, c + v * kLanes, c_stride);
  const float* right = b + v * kLanes;
  float* to = c + v * kLanes;
  switch (vectors - v) {
    case 1:
      return product_columns<1, UnitColumn, Add>(m, a, stride, right, count, to, c_stride);
    case 2:
      return product_columns<2, UnitColumn, Add>(m, a, stride, right, count, to, c_stride);
    case 3:
      return product_columns<3, UnitColumn, Add>(m, a, stride, right, count, to, c_stride);
    default:
      return;
  }
}

}  // namespace lat::LAT_ARCH
