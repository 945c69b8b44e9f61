// Which keys a block of rows meets, 64 at a time, and which of those 64 a row sees: banded attention over a sequence,
// then over a list of keys that every row sees. tile_walk_test.cpp runs it for every small case.
//
// Words of 64 bits say of which kind a key is, so a tile of keys is a word; a tile whose word is 0 is not visited.
#pragma once

#include <cstdint>

#include "common/host_device.h"

namespace lat {

constexpr int kTileKeys = 64;
constexpr uint64_t kAllKeys = ~uint64_t{0};

LAT_HOST_DEVICE int64_t tiles_of(int64_t keys) { return (keys + kTileKeys - 1) / kTileKeys; }

// The lowest `count` bits, 0 to 64.
LAT_HOST_DEVICE uint64_t low_bits(int count) { return count >= 64 ? kAllKeys : (uint64_t{1} << count) - 1; }

// Rows and keys are told apart by `offset` = row - first key of the tile. With sizes below 2^31 nothing here overflows:
// an offset lies above -2^31 + 63, and sums are made only where they are known to be small.

// The keys 0 to 63 of a tile that are at most `window` from a row.
LAT_HOST_DEVICE uint64_t bits_in_window(int32_t offset, int32_t window) {
  constexpr int32_t kLast = kTileKeys - 1;
  if (window < -offset || offset - kLast > window) return 0;
  const uint64_t not_before = offset <= window ? kAllKeys : ~low_bits(offset - window);
  return (window >= kLast - offset ? kAllKeys : low_bits(offset + window + 1)) & not_before;
}

enum class Cover { none, part, full };

// How much of the pairs of the rows from `first` to `last` (offsets, both included) and the 64 keys lies in the band.
LAT_HOST_DEVICE Cover cover_of(int32_t first, int32_t last, int32_t window) {
  constexpr int32_t kLast = kTileKeys - 1;
  if (window < -last || first - kLast > window) return Cover::none;
  return last <= window && window >= kLast - first ? Cover::full : Cover::part;
}

struct Tile {
  int32_t index;  // keys 64 * index and on: positions in the sequence, or in the list
  bool listed;
  uint64_t keys;  // those to load, all others are no key; 0: there is no tile any more
};

// The keys of a tile that a row sees. Rows of a list of rows see all: their window holds the sequence.
LAT_HOST_DEVICE uint64_t keys_seen(const Tile& tile, int32_t row, int32_t window) {
  return tile.listed ? tile.keys : tile.keys & bits_in_window(row - kTileKeys * tile.index, window);
}

LAT_HOST_DEVICE Cover cover_of(const Tile& tile, int32_t first_row, int32_t last_row, int32_t window) {
  const int32_t first_key = kTileKeys * tile.index;
  return tile.listed ? Cover::full : cover_of(first_row - first_key, last_row - first_key, window);
}

// `Words` gives the word of a tile: words(index).
template <class Words>
class TileWalk {
 public:
  // The rows first_row to last_row of `tokens`; `listed` keys of the list.
  LAT_HOST_DEVICE TileWalk(Words words, int64_t tokens, int64_t window, int64_t first_row, int64_t last_row,
                           int32_t listed)
      : words_(words),
        next_(static_cast<int32_t>((first_row > window ? first_row - window : 0) / kTileKeys)),
        end_(static_cast<int32_t>((last_row + window < tokens ? last_row + window : tokens - 1) / kTileKeys) + 1),
        next_listed_(0),
        listed_(listed) {}

  LAT_HOST_DEVICE Tile next() {
    while (next_ < end_) {
      const int32_t index = next_++;
      const uint64_t keys = words_(index);
      if (keys != 0) return {index, false, keys};
    }
    const int64_t left = listed_ - int64_t{kTileKeys} * next_listed_;
    if (left <= 0) return {0, true, 0};
    return {next_listed_++, true, low_bits(left < kTileKeys ? static_cast<int>(left) : kTileKeys)};
  }

 private:
  Words words_;
  int32_t next_, end_, next_listed_, listed_;
};

}  // namespace lat
