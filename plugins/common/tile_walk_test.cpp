// Every small case of the walk that the CUDA kernels make, against the definition: each pair of a row and a key that it
// sees is met exactly once, no other pair is, and a tile or a part of one that counts as full is full.
#include "common/tile_walk.h"

#include <algorithm>
#include <climits>
#include <random>
#include <string>
#include <vector>

#include "common/kernel_test.h"
#include "common/token_list.h"

namespace {

using lat::Cover;
using lat::KeyKinds;
using lat::Tile;
using lat::test::demand;

struct WordsOfVector {
  const std::vector<uint64_t>* words;
  uint64_t operator()(int32_t index) const { return words->at(static_cast<std::size_t>(index)); }
};

struct Listed {
  std::vector<uint64_t> key_bits;
  std::vector<int32_t> positions;
};

// What a block of threads of list_tokens does, lane by lane.
Listed list_tokens(const std::vector<int32_t>& mask, KeyKinds kinds) {
  using Cut = lat::TokenListCut;
  const int64_t tokens = static_cast<int64_t>(mask.size());
  Listed made;
  made.key_bits.assign(static_cast<std::size_t>(lat::tiles_of(tokens)), 0xdeadbeef);
  made.positions.assign(mask.size(), -1);
  int32_t found = 0;
  for (int64_t first = 0; first < tokens; first += Cut::kTokensAtOnce) {
    int32_t counted[Cut::kWarps] = {};
    const auto kind = [&](int warp, int word, int lane) {
      const int64_t token = lat::token_of(first, warp, word, lane);
      return token < tokens ? mask[static_cast<std::size_t>(token)] : static_cast<int32_t>(LAT_PADDING);
    };
    const auto ballot = [&](int warp, int word, auto test) {
      uint32_t bits = 0;
      for (int lane = 0; lane < 32; ++lane) bits |= uint32_t{test(kind(warp, word, lane))} << lane;
      return bits;
    };
    const auto is_global = [](int32_t one) { return one == LAT_GLOBAL; };
    const auto is_key = [&](int32_t one) { return lat::is_key(kinds, one); };
    for (int warp = 0; warp < Cut::kWarps; ++warp)
      for (int word = 0; word < Cut::kWords; ++word) {
        counted[warp] += __builtin_popcount(ballot(warp, word, is_global));
        const int64_t tile = lat::token_of(first, warp, word, 0) / lat::kTileKeys;
        if (word % 2 == 0 && tile < lat::tiles_of(tokens))
          made.key_bits[static_cast<std::size_t>(tile)] =
              uint64_t{ballot(warp, word + 1, is_key)} << 32 | ballot(warp, word, is_key);
      }
    for (int warp = 0; warp < Cut::kWarps; ++warp) {
      int32_t at = found;
      for (int before = 0; before < warp; ++before) at += counted[before];
      for (int word = 0; word < Cut::kWords; ++word) {
        const uint32_t globals = ballot(warp, word, is_global);
        for (int lane = 0; lane < 32; ++lane)
          if (is_global(kind(warp, word, lane)))
            made.positions.at(static_cast<std::size_t>(at + __builtin_popcount(globals & lat::lanes_before(lane)))) =
                static_cast<int32_t>(lat::token_of(first, warp, word, lane));
        at += __builtin_popcount(globals);
      }
    }
    for (const int32_t count : counted) found += count;
  }
  made.positions.resize(static_cast<std::size_t>(found));
  return made;
}

std::vector<int32_t> globals_of(const std::vector<int32_t>& mask) {
  std::vector<int32_t> places;
  for (std::size_t at = 0; at < mask.size(); ++at)
    if (mask[at] == LAT_GLOBAL) places.push_back(static_cast<int32_t>(at));
  return places;
}

void check_list(const std::vector<int32_t>& mask) {
  for (const KeyKinds kinds : {KeyKinds::tokens, KeyKinds::tokens_and_globals}) {
    const Listed made = list_tokens(mask, kinds);
    demand(made.positions == globals_of(mask), "globals in their order");
    for (std::size_t at = 0; at < made.key_bits.size() * 64; ++at) {
      const bool key = at < mask.size() &&
                       (mask[at] == LAT_TOKEN || (kinds == KeyKinds::tokens_and_globals && mask[at] == LAT_GLOBAL));
      demand((made.key_bits[at / 64] >> at % 64 & 1) == key, "key bits");
    }
  }
}

// Rows `first` to `first + rows - 1` cut into `own` rows a warp, as the kernels cut them.
void check_block(const std::vector<int32_t>& mask, const Listed& list, int32_t window, int32_t first, int32_t rows,
                 int32_t own, std::vector<uint8_t>& met) {
  const int32_t tokens = static_cast<int32_t>(mask.size());
  const int32_t last = std::min(first + rows, tokens) - 1;
  std::fill(met.begin(), met.end(), 0);
  lat::TileWalk<WordsOfVector> walk({&list.key_bits}, tokens, window, first, last,
                                    static_cast<int32_t>(list.positions.size()));
  int32_t visited = 0;
  for (Tile tile = walk.next(); tile.keys != 0; tile = walk.next(), ++visited) {
    demand(visited <= lat::tiles_of(tokens) * 2 + 1, "the walk ends");
    for (int32_t part = first; part <= last; part += own) {
      const Cover cover = lat::cover_of(tile, part, part + own - 1, window);
      for (int32_t row = part; row < std::min(part + own, last + 1); ++row) {
        const uint64_t seen = lat::keys_seen(tile, row, window);
        demand((seen & ~tile.keys) == 0, "keys that are seen are loaded");
        demand(cover != Cover::none || seen == 0, "a part without cover has no key");
        demand(cover != Cover::full || seen == tile.keys, "a full part sees all its keys");
        for (int key = 0; key < lat::kTileKeys; ++key) {
          if ((seen >> key & 1) == 0) continue;
          const int32_t at = lat::kTileKeys * tile.index + key;
          const int32_t token = tile.listed ? list.positions.at(static_cast<std::size_t>(at)) : at;
          ++met.at(static_cast<std::size_t>(row - first) * mask.size() + static_cast<std::size_t>(token));
        }
      }
    }
  }
  for (int32_t row = first; row <= last; ++row)
    for (int32_t key = 0; key < tokens; ++key) {
      const int32_t kind = mask[static_cast<std::size_t>(key)];
      const bool sees = kind == LAT_GLOBAL || (kind == LAT_TOKEN && std::abs(row - key) <= window);
      demand(met[static_cast<std::size_t>(row - first) * mask.size() + static_cast<std::size_t>(key)] == sees,
             "each pair once");
    }
}

void check_walk(const std::vector<int32_t>& mask, int32_t window) {
  const Listed list = list_tokens(mask, KeyKinds::tokens);
  const int32_t tokens = static_cast<int32_t>(mask.size());
  std::vector<uint8_t> met(128 * mask.size());
  for (const auto& [rows, own] : {std::pair{64, 16}, std::pair{128, 32}, std::pair{64, 64}})
    for (int32_t first = 0; first < tokens; first += rows)
      check_block(mask, list, std::min(window, tokens), first, rows, own, met);
}

// Every offset near the tile, every window, and both at their largest.
void check_offsets() {
  const auto seen = [](int64_t offset, int64_t window, int key) { return std::llabs(offset - key) <= window; };
  std::vector<int32_t> windows, offsets;
  for (int32_t window = 1; window <= 200; ++window) windows.push_back(window);
  for (int32_t offset = -300; offset <= 300; ++offset) offsets.push_back(offset);
  for (int32_t back = 0; back < 200; ++back) {
    windows.push_back(INT32_MAX - back);
    offsets.push_back(INT32_MAX - back);
    offsets.push_back(-INT32_MAX + 63 + back);  // row 0, and the last tile of the longest sequence
  }
  for (const int32_t window : windows)
    for (const int32_t offset : offsets) {
      const uint64_t bits = lat::bits_in_window(offset, window);
      for (int key = 0; key < 64; ++key) demand((bits >> key & 1) == seen(offset, window, key), "bits in window");
      for (const int32_t rows : {1, 16, 32, 64}) {
        if (offset > INT32_MAX - rows + 1) continue;
        bool any = false, all = true;
        for (int32_t row = 0; row < rows; ++row)
          for (int key = 0; key < 64; ++key) {
            const bool one = seen(int64_t{offset} + row, window, key);
            any |= one, all &= one;
          }
        const Cover cover = lat::cover_of(offset, offset + (rows - 1), window);
        demand(cover == (all ? Cover::full : any ? Cover::part : Cover::none), "cover");
      }
    }
}

std::vector<std::vector<int32_t>> masks_of(int32_t tokens) {
  const std::size_t count = static_cast<std::size_t>(tokens);
  std::vector<std::vector<int32_t>> masks = {std::vector<int32_t>(count, 1), std::vector<int32_t>(count, 0),
                                             std::vector<int32_t>(count, 2)};
  for (unsigned seed = 0; seed < 3; ++seed) masks.push_back(lat::test::random_mask(tokens, 3, seed));
  std::vector<int32_t> mask(count, 1);
  mask[0] = 2;
  for (std::size_t at = count - count / 3; at < count; ++at) mask[at] = 0;
  masks.push_back(mask);  // a global at the start, padding at the end
  for (std::size_t at = 0; at < count; ++at) mask[at] = at % 7 == 3 ? 2 : at < count / 2 ? 0 : at % 11 == 0 ? -5 : 1;
  masks.push_back(mask);  // and numbers that are no kind: padding
  return masks;
}

}  // namespace

int main() {
  check_offsets();
  std::mt19937 random(7);
  for (const int32_t tokens : {1, 2, 63, 64, 65, 127, 128, 129, 200, 333})
    for (const std::vector<int32_t>& mask : masks_of(tokens)) {
      check_list(mask);
      for (const int32_t window : {1, 2, 31, 32, 63, 64, 65, 100, 128, 200, INT32_MAX}) check_walk(mask, window);
    }
  // More than one round of the list, and its edges.
  for (const int32_t tokens : {8191, 8192, 8193, 20000})
    for (const std::vector<int32_t>& mask : masks_of(tokens)) check_list(mask);
  std::puts("tile walk: every pair once");
}
