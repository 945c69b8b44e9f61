// How the CUDA kernels cut the keys of a head among blocks of threads whose parts are joined afterwards: tiles of 64
// keys, in segments of as many tiles. It hangs on sizes alone, so that the sums have one order on every device.
// key_cut_test.cpp runs it.
#pragma once

#include <cstdint>

namespace lat {

struct KeyCut {
  static constexpr int64_t kTile = 64;
  static constexpr int64_t kBlocks = 768;  // of threads, beyond which no more segments are made
  static constexpr int64_t kMostSegments = 64;

  int64_t segments, tiles_of_segment;

  // `heads` of the whole batch, each of `panels` that read the keys for themselves.
  KeyCut(int64_t heads, int64_t panels, int64_t tokens) {
    const int64_t tiles = tiles_of(tokens), most = (kBlocks + heads * panels - 1) / (heads * panels);
    segments = most_segments(tokens) < most ? most_segments(tokens) : most;
    tiles_of_segment = (tiles + segments - 1) / segments;
    segments = (tiles + tiles_of_segment - 1) / tiles_of_segment;
  }

  // At least heads * segments of these and of all smaller sizes: memory for as many parts is enough for those too.
  static int64_t capacity(int64_t heads, int64_t tokens) {
    const int64_t all = heads * most_segments(tokens), many = heads + kBlocks;
    return all < many ? all : many;
  }

 private:
  static int64_t tiles_of(int64_t tokens) { return (tokens + kTile - 1) / kTile; }

  // A part is written and read again: about four times as many of them as a segment has tiles.
  static int64_t most_segments(int64_t tokens) {
    const int64_t tiles = tiles_of(tokens);
    int64_t count = 1;
    while (count < kMostSegments && count < tiles && count * count < 4 * tiles) ++count;
    return count;
  }
};

}  // namespace lat
