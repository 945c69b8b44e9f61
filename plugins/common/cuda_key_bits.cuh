// Which tokens are keys, for ops whose mask knows padding and nothing else: words of key bits, as tile_walk.h has them.
#pragma once

#include "common/cuda_launch.cuh"
#include "common/tile_walk.h"

namespace lat {

// All lanes of a warp: bit i is token 64 * tile + i, which is a key where its mask is not 0.
__device__ __forceinline__ uint64_t keys_of_tile(const int32_t* mask, int64_t tokens, int64_t tile) {
  const int64_t token = kTileKeys * tile + static_cast<int>(threadIdx.x % 32);
  const uint32_t low = __ballot_sync(0xffffffff, token < tokens && mask[token] != 0);
  const uint32_t high = __ballot_sync(0xffffffff, token + 32 < tokens && mask[token + 32] != 0);
  return uint64_t{high} << 32 | low;
}

// One block of threads a row of the batch. In one without any token every token becomes a key, and `any_token` is 0.
template <int kThreads>
__global__ void __launch_bounds__(kThreads)
    mark_keys(const int32_t* attention_mask, int64_t tokens, int32_t* any_token, uint64_t* key_bits) {
  const int64_t batch = blockIdx.x, tiles = tiles_of(tokens);
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int32_t* const mask = attention_mask + batch * tokens;
  uint64_t* const words = key_bits + batch * tiles;
  uint64_t found = 0;
  for (int64_t tile = threadIdx.x / 32; tile < tiles; tile += kThreads / 32) {
    const uint64_t keys = keys_of_tile(mask, tokens, tile);
    if (lane == 0) words[tile] = keys;
    found |= keys;
  }
  const int any = __syncthreads_or(found != 0);
  if (threadIdx.x == 0) any_token[batch] = any != 0;
  if (any != 0) return;
  for (int64_t tile = threadIdx.x; tile < tiles; tile += kThreads) {
    const int64_t left = tokens - kTileKeys * tile;
    words[tile] = low_bits(left < kTileKeys ? static_cast<int>(left) : kTileKeys);
  }
}

template <int kThreads = 1024>
void launch_mark_keys(const int32_t* attention_mask, int64_t batch, int64_t tokens, int32_t* any_token,
                      uint64_t* key_bits, cudaStream_t stream, lat_status& status) {
  launch("the words of keys", mark_keys<kThreads>, batch, kThreads, 0, stream, status, attention_mask, tokens,
         any_token, key_bits);
}

}  // namespace lat
