// What the kernels of lat::NystromAttention work on, and what they hand to each other.
#pragma once

#include "common/cuda_attention.cuh"
#include "common/kernel_abi.h"
#include "common/tile_walk.h"

namespace lat {

constexpr int kMostLandmarks = 128, kLandmarkRows = 64;  // in all; of a panel, and of a tile that rows attend to

// Rows and weights as they come, then the workspace: "head" is one head of one row of the batch, F32 a float.
struct NystromTask {
  lat_rows query, key, value, output;
  const int32_t* attention_mask;
  const void* conv_weight;  // [H, K], or null
  int64_t taps;             // K

  uint64_t* key_bits;        // [B, tiles]: bit k of word t: token 64 t + k is no padding
  int32_t* any_token;        // [B]: 0 where all is padding
  float *of_query, *of_key;  // [heads, L, D]: landmarks
  void *query_16, *key_16;   // the same, of the element type; for matrix units only
  float* kernel_2;           // [heads, P, P], P = 64 or 128, zeros from row and column L on
  float* largest;            // [heads]: the largest column sum of kernel_2
  float* parts;              // [heads, segments, L, D]: kernel_3 x values of a segment of the keys, not divided yet
  float *part_largest, *part_sum;  // [heads, segments, L]: the largest score, times log2(e); the sum of the weights
  float* scratch;                  // [heads, 2, P, P]: of the inverse
  void* summary;                   // [heads, L, D]: inverse x kernel_3 x values: float, or of matrix units __half ...
  float* summary_scale;            // [heads]: ... of which one times this is meant

  int64_t first_block, blocks;  // of this launch; in all
  int64_t heads;                // B * H
  int32_t batch, tokens, num_heads, landmarks, head_size;
  int32_t rows_of_landmark;  // N / L
  int32_t segments, tiles_of_segment, panels;
  int32_t row_blocks, run;  // of a head, each of up to `run` blocks of rows one after the other
  int32_t per_head_init;
  float scale_log2;  // D^-1/2 * log2(e)
};

// A segment of the keys of one head.
struct KeySegment {
  int64_t head, batch, column;  // first of the head's columns
  int32_t segment, panel;       // of 64 landmarks
  int32_t from, to;             // tiles
  bool any;                     // a token in its row of the batch; else all keys count, for landmarks of zeros

  // The last ones first: their keys were read last, by the landmarks.
  __device__ __forceinline__ KeySegment(const NystromTask& task, int64_t block) {
    int64_t at = task.heads * task.segments * task.panels - 1 - block;
    panel = static_cast<int32_t>(at % task.panels);
    at /= task.panels;
    segment = static_cast<int32_t>(at % task.segments);
    head = at / task.segments;
    batch = head / task.num_heads;
    column = head % task.num_heads * task.head_size;
    from = segment * task.tiles_of_segment;
    const int32_t tiles = static_cast<int32_t>(tiles_of(task.tokens)), left = tiles - from;
    to = from + (left < task.tiles_of_segment ? left : task.tiles_of_segment);
    any = task.any_token[batch] != 0;
  }

  __device__ __forceinline__ uint64_t keys(const NystromTask& task, int32_t tile) const {
    if (any) return task.key_bits[batch * tiles_of(task.tokens) + tile];
    const int32_t left = task.tokens - kTileKeys * tile;
    return low_bits(left < kTileKeys ? left : kTileKeys);
  }

  // The first tile from `tile` on that has a key, or `to`.
  __device__ __forceinline__ int32_t next(const NystromTask& task, int32_t tile) const {
    while (tile < to && keys(task, tile) == 0) ++tile;
    return tile;
  }

  // Of landmark `row` of the head's.
  __device__ __forceinline__ int64_t place(const NystromTask& task, int32_t row) const {
    return (head * task.segments + segment) * task.landmarks + row;
  }
};

// Threads of a block find the largest of their numbers, none below 0. `shared` has a float for each warp.
template <int kThreads>
__device__ __forceinline__ float largest_of_block(float value, float* shared) {
  const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
  for (int step = 16; step > 0; step /= 2) value = fmaxf(value, __shfl_xor_sync(0xffffffff, value, step));
  if (thread % 32 == 0) shared[thread / 32] = value;
  __syncthreads();
  float largest = 0.0f;
#pragma unroll
  for (int warp = 0; warp < kThreads / 32; ++warp) largest = fmaxf(largest, shared[warp]);
  __syncthreads();  // `shared` may be used again
  return largest;
}

}  // namespace lat
