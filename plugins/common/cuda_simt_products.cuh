// The two products of attention without matrix units: rows against tiles of 64 keys, and their weights against the
// values, all float32 in shared memory. How scores become weights is the caller's.
#pragma once

#include "common/cuda_instructions.cuh"
#include "common/cuda_storage.cuh"
#include "common/tile_walk.h"

namespace lat {

// Rows in shared memory begin in different banks: 16 bytes more each.
template <int kNumbers>
constexpr int kSimtStride = kNumbers + 4;

// `Layout` says what a thread owns: kOwnRows rows, row(own); of their scores keys lane(), lane() + kLanes, ...; of
// their sums kColumns columns, column(own). All of a row lies in kLanes neighbouring lanes.
template <int kHeadSize, class Layout>
class SimtProducts {
 public:
  static constexpr int kOwnRows = Layout::kOwnRows, kOwnKeys = kTileKeys / Layout::kLanes;
  static constexpr int kStride = kSimtStride<kHeadSize>, kWeightStride = kSimtStride<kTileKeys>;

  __device__ __forceinline__ SimtProducts() {
#pragma unroll
    for (int i = 0; i < kOwnRows; ++i)
#pragma unroll
      for (int own = 0; own < Layout::kColumns; ++own) context_[i][own] = 0.0f;
  }

  __device__ __forceinline__ const Layout& layout() const { return layout_; }

  __device__ __forceinline__ void multiply_keys(float (&score)[kOwnRows][kOwnKeys], const float* rows,
                                                const float* keys) const {
    const int lane = layout_.lane();
#pragma unroll
    for (int i = 0; i < kOwnRows; ++i)
#pragma unroll
      for (int j = 0; j < kOwnKeys; ++j) score[i][j] = 0.0f;
#pragma unroll 4
    for (int at = 0; at < kHeadSize; at += 4) {
      float4 row[kOwnRows], key[kOwnKeys];
#pragma unroll
      for (int i = 0; i < kOwnRows; ++i)
        row[i] = *reinterpret_cast<const float4*>(rows + layout_.row(i) * kStride + at);
#pragma unroll
      for (int j = 0; j < kOwnKeys; ++j)
        key[j] = *reinterpret_cast<const float4*>(keys + (lane + j * Layout::kLanes) * kStride + at);
#pragma unroll
      for (int i = 0; i < kOwnRows; ++i)
#pragma unroll
        for (int j = 0; j < kOwnKeys; ++j) {
          score[i][j] = fmaf(row[i].x, key[j].x, score[i][j]);
          score[i][j] = fmaf(row[i].y, key[j].y, score[i][j]);
          score[i][j] = fmaf(row[i].z, key[j].z, score[i][j]);
          score[i][j] = fmaf(row[i].w, key[j].w, score[i][j]);
        }
    }
  }

  // Of own row i, to where all threads read them.
  __device__ __forceinline__ void store_weights(float* weights, const float (&weight)[kOwnKeys], int i) const {
#pragma unroll
    for (int j = 0; j < kOwnKeys; ++j)
      weights[layout_.row(i) * kWeightStride + layout_.lane() + j * Layout::kLanes] = weight[j];
  }

  __device__ __forceinline__ void add_values(const float* weights, const float* values) {
#pragma unroll 2
    for (int key = 0; key < kTileKeys; key += 4) {
      float weight[kOwnRows][4];
#pragma unroll
      for (int i = 0; i < kOwnRows; ++i)
        *reinterpret_cast<float4*>(weight[i]) =
            *reinterpret_cast<const float4*>(weights + layout_.row(i) * kWeightStride + key);
#pragma unroll
      for (int k = 0; k < 4; ++k)
#pragma unroll
        for (int own = 0; own < Layout::kColumns; ++own) {
          const float value = values[(key + k) * kStride + layout_.column(own)];
#pragma unroll
          for (int i = 0; i < kOwnRows; ++i) context_[i][own] = fmaf(weight[i][k], value, context_[i][own]);
        }
    }
  }

  __device__ __forceinline__ float (&context())[kOwnRows][Layout::kColumns] { return context_; }

 private:
  Layout layout_;
  float context_[kOwnRows][Layout::kColumns];
};

// Scores of the keys of own row i whose bit is not set become -inf.
template <int kLanes, int kOwnKeys>
__device__ __forceinline__ void hide_simt_keys(float (&score)[kOwnKeys], uint64_t seen, int lane) {
  seen >>= lane;
#pragma unroll
  for (int j = 0; j < kOwnKeys; ++j)
    if ((seen >> (j * kLanes) & 1) == 0) score[j] = -INFINITY;
}

// 64 rows of a head to shared memory as float32, by kThreads threads; `token(row)` says which of those from `from` on,
// below 0 is a row of zeros. Where there are `factors`, each row is multiplied with that of its token.
template <int kHeadSize, int kThreads, bool kFactors = false, class Element, class Token>
__device__ __forceinline__ void load_simt_rows(float* to, const Element* from, int64_t stride, Token token,
                                               const float* factors = nullptr) {
  // Where a thread reads is worked out anew for each tile: kept, it would take registers from the sums.
#pragma unroll 8
  for (int at = thread_of_block(); at < kTileKeys * kHeadSize; at += kThreads) {
    const int row = at / kHeadSize, column = at % kHeadSize;
    const int64_t source = token(row);
    float number = source < 0 ? 0.0f : to_float(from[source * stride + column]);
    if (kFactors && source >= 0) number *= factors[source];
    to[row * kSimtStride<kHeadSize> + column] = number;
  }
}

}  // namespace lat
