// One block of threads a row of the batch: words of key bits, and the list of global tokens. One pass over the mask.
#pragma once

#include "common/cuda_launch.cuh"
#include "common/tile_walk.h"
#include "common/token_list.h"

namespace lat {

// In the workspace.
struct TokenList {
  int32_t* counts;     // [B] global tokens
  int32_t* positions;  // [B, N], of which the first counts[b] are written
  uint64_t* key_bits;  // [B, tiles]
};

inline TokenList take_token_list(Workspace& workspace, int64_t batch, int64_t tokens) {
  TokenList list;
  list.counts = workspace.take<int32_t>(batch);
  list.positions = workspace.take<int32_t>(batch * tokens);
  list.key_bits = workspace.take<uint64_t>(batch * tiles_of(tokens));
  return list;
}

template <KeyKinds kKinds>
__global__ void __launch_bounds__(32 * TokenListCut::kWarps)
    list_tokens(const int32_t* attention_mask, int64_t tokens, TokenList list) {
  constexpr int kWords = TokenListCut::kWords;
  // Two, taken in turn: a warp may write the next round's while another still reads this round's.
  __shared__ int32_t counted[2][TokenListCut::kWarps];
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t batch = blockIdx.x, tiles = tiles_of(tokens);
  const int32_t* const mask = attention_mask + batch * tokens;
  int32_t* const positions = list.positions + batch * tokens;
  uint64_t* const key_bits = list.key_bits + batch * tiles;

  int32_t found = 0;
  int round = 0;
  for (int64_t first = 0; first < tokens; first += TokenListCut::kTokensAtOnce, round ^= 1) {
    int32_t kind[kWords];
#pragma unroll
    for (int word = 0; word < kWords; ++word) {
      const int64_t token = token_of(first, warp, word, lane);
      kind[word] = token < tokens ? mask[token] : static_cast<int32_t>(LAT_PADDING);
    }
    uint32_t globals[kWords];
    int32_t in_warp = 0;
#pragma unroll
    for (int word = 0; word < kWords; word += 2) {
      const uint32_t low = __ballot_sync(0xffffffff, is_key(kKinds, kind[word]));
      const uint32_t high = __ballot_sync(0xffffffff, is_key(kKinds, kind[word + 1]));
      const int64_t tile = token_of(first, warp, word, 0) / kTileKeys;
      if (lane == 0 && tile < tiles) key_bits[tile] = uint64_t{high} << 32 | low;
    }
#pragma unroll
    for (int word = 0; word < kWords; ++word) {
      globals[word] = __ballot_sync(0xffffffff, kind[word] == LAT_GLOBAL);
      in_warp += __popc(globals[word]);
    }
    if (lane == 0) counted[round][warp] = in_warp;
    __syncthreads();
    int32_t before = lane < warp ? counted[round][lane] : 0, all = counted[round][lane];
#pragma unroll
    for (int step = 16; step > 0; step /= 2) {
      before += __shfl_xor_sync(0xffffffff, before, step);
      all += __shfl_xor_sync(0xffffffff, all, step);
    }
    int32_t at = found + before;
#pragma unroll
    for (int word = 0; word < kWords; ++word) {
      if (kind[word] == LAT_GLOBAL)
        positions[at + __popc(globals[word] & lanes_before(lane))] =
            static_cast<int32_t>(token_of(first, warp, word, lane));
      at += __popc(globals[word]);
    }
    found += all;
  }
  if (threadIdx.x == 0) list.counts[batch] = found;
}

template <KeyKinds kKinds>
void launch_list_tokens(const int32_t* attention_mask, int64_t batch, int64_t tokens, const TokenList& list,
                        cudaStream_t stream, lat_status& status) {
  launch("the list of tokens", list_tokens<kKinds>, batch, 32 * TokenListCut::kWarps, 0, stream, status, attention_mask,
         tokens, list);
}

}  // namespace lat
