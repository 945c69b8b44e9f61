// One over the L2 norm of every query and key, and words of key bits: one pass over both. A warp takes one token of a
// row of the batch, all its heads side by side.
#pragma once

#include "common/cuda_attention.cuh"
#include "common/cuda_key_bits.cuh"
#include "common/smallest_norm.h"

namespace lat {

struct FactorTask {
  lat_rows query, key;
  const int32_t* attention_mask;
  float *query_factors, *key_factors;  // [B, H, 64 * tiles]; 0 for padding and beyond the last token
  uint64_t* key_bits;                  // [B, tiles]
  int64_t first_block, tokens, width, num_heads;
  bool aligned;  // queries and keys lie on 16 bytes
};

// Of a block of threads.
constexpr int kFactorTokens = 16, kFactorThreads = 32 * kFactorTokens;

// 16 bytes of a row, which may lie anywhere where it is not `aligned`.
template <class Element>
struct FactorChunk {
  static constexpr int kNumbers = 16 / static_cast<int>(sizeof(Element));
  Element number[kNumbers];

  __device__ __forceinline__ void load(const Element* from, bool aligned) {
    if (aligned) {
      const uint4 words = *reinterpret_cast<const uint4*>(from);
      memcpy(static_cast<void*>(number), &words, sizeof words);
    } else {
#pragma unroll
      for (int i = 0; i < kNumbers; ++i) number[i] = from[i];
    }
  }
};

template <class Element>
__device__ __forceinline__ float squares_of(const FactorChunk<Element>& chunk) {
  float squares = 0.0f;
#pragma unroll
  for (int i = 0; i < FactorChunk<Element>::kNumbers; ++i) {
    const float number = to_float(chunk.number[i]);
    squares = fmaf(number, number, squares);
  }
  return squares;
}

template <class Element, int kHeadSize>
__global__ void __launch_bounds__(kFactorThreads) row_factors(const __grid_constant__ FactorTask task) {
  using Chunk = FactorChunk<Element>;
  constexpr int kLanes = kHeadSize / Chunk::kNumbers;  // neighbouring ones that have a head
  static_assert(kLanes <= 32 && 32 % kLanes == 0, "a head lies in one warp");
  constexpr int kBlocksOfTile = kTileKeys / kFactorTokens;
  const int64_t block = task.first_block + blockIdx.x, tiles = tiles_of(task.tokens);
  const int64_t batch = block / kBlocksOfTile / tiles, tile = block / kBlocksOfTile % tiles;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int row = static_cast<int>(block % kBlocksOfTile) * kFactorTokens + warp;  // of the tile
  // Every warp makes the word: a barrier would cost as much as these two loads.
  const uint64_t keys = keys_of_tile(task.attention_mask + batch * task.tokens, task.tokens, tile);
  if (row == 0 && lane == 0) task.key_bits[batch * tiles + tile] = keys;

  const bool is_key = (keys >> row & 1) != 0;
  const int64_t token = is_key ? kTileKeys * tile + row : 0;
  const Element* const query = row_of<const Element>(task.query, batch, token, 0);
  const Element* const key = row_of<const Element>(task.key, batch, token, 0);
  const int64_t head_stride = kTileKeys * tiles, to = batch * task.num_heads * head_stride + kTileKeys * tile + row;
  for (int64_t first = 0; first < task.width; first += 32 * Chunk::kNumbers) {
    const int64_t column = first + lane * Chunk::kNumbers;
    float of_query = 0.0f, of_key = 0.0f;
    if (is_key && column < task.width) {
      Chunk query_chunk, key_chunk;
      query_chunk.load(query + column, task.aligned);
      key_chunk.load(key + column, task.aligned);
      of_query = squares_of(query_chunk);
      of_key = squares_of(key_chunk);
    }
#pragma unroll
    for (int step = 1; step < kLanes; step *= 2) {
      of_query += __shfl_xor_sync(0xffffffff, of_query, step);
      of_key += __shfl_xor_sync(0xffffffff, of_key, step);
    }
    if (lane % kLanes != 0 || column >= task.width) continue;
    const int64_t place = to + column / kHeadSize * head_stride;
    task.query_factors[place] = is_key ? 1.0f / fmaxf(sqrtf(of_query), kSmallestNorm) : 0.0f;
    task.key_factors[place] = is_key ? 1.0f / fmaxf(sqrtf(of_key), kSmallestNorm) : 0.0f;
  }
}

template <class Element>
void launch_row_factors(FactorTask task, int64_t batch, cudaStream_t stream, lat_status& status) {
  task.aligned = lies_on_16_bytes(task.query, sizeof(Element)) && lies_on_16_bytes(task.key, sizeof(Element));
  const auto run = [&](void (*kernel)(FactorTask)) {
    launch_all("norms of queries and keys", kernel, task, batch * tiles_of(task.tokens) * (kTileKeys / kFactorTokens),
               kFactorThreads, 0, stream, status);
  };
  switch (task.width / task.num_heads) {
    case 16:
      return run(row_factors<Element, 16>);
    case 32:
      return run(row_factors<Element, 32>);
    case 64:
      return run(row_factors<Element, 64>);
    default:
      return run(row_factors<Element, 128>);
  }
}

}  // namespace lat
