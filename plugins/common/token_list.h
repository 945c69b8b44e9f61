// How a row of the attention mask becomes words of key bits and a list of its global tokens, in their order. A block of
// threads takes kTokensAtOnce tokens at a time; a warp of them kWordsOfWarp times 32.
#pragma once

#include <cstdint>

#include "common/host_device.h"
#include "common/kernel_abi.h"

namespace lat {

struct TokenListCut {
  static constexpr int kWarps = 32, kWords = 8;
  static constexpr int kTokensOfWarp = 32 * kWords, kTokensAtOnce = kWarps * kTokensOfWarp;
};

// Which tokens are keys; values that are no token kind are padding.
enum class KeyKinds { tokens, tokens_and_globals };

LAT_HOST_DEVICE bool is_key(KeyKinds kinds, int32_t kind) {
  return kind == LAT_TOKEN || (kinds == KeyKinds::tokens_and_globals && kind == LAT_GLOBAL);
}

// The position that a lane of a warp looks at for word `word`.
LAT_HOST_DEVICE int64_t token_of(int64_t first, int warp, int word, int lane) {
  return first + warp * TokenListCut::kTokensOfWarp + word * 32 + lane;
}

// Globals among the lanes below this one.
LAT_HOST_DEVICE uint32_t lanes_before(int lane) { return (uint32_t{1} << lane) - 1; }

}  // namespace lat
