// Which value rows a block of rows meets in the convolution of value_convolution.h, some taps and a chunk of rows at a
// time. convolution_walk_test.cpp runs it for every small case.
#pragma once

#include <cstdint>

#include "common/host_device.h"

namespace lat {

constexpr int kTapsAtOnce = 512;

// Taps of one head that can meet a value: those further out than the sequence is long meet only zeros. Tap t of row i
// meets token i - half + t.
struct TapRange {
  int32_t half;

  LAT_HOST_DEVICE TapRange(int64_t taps, int32_t tokens)
      : half(taps / 2 < tokens ? static_cast<int32_t>(taps / 2) : tokens - 1) {}

  LAT_HOST_DEVICE int64_t count() const { return 2 * int64_t{half} + 1; }
  // Its first tap, of the `taps` as they are given.
  LAT_HOST_DEVICE int64_t first(int64_t taps) const { return taps / 2 - half; }
};

// The chunks that `rows` rows from `first_row` on meet with the taps `first_tap` to `first_tap + taps`, of a TapRange.
// Number k of chunk c is token `token + chunk_rows * c + k`, and row r meets it with tap
// `first_tap + chunk_rows * c + k - r`, if there is such a one. Chunks beyond both ends of the sequence are left out.
struct ConvolutionChunks {
  int64_t token;
  int32_t taps, from, to;

  LAT_HOST_DEVICE ConvolutionChunks(const TapRange& range, int64_t first_tap, int64_t first_row, int rows,
                                    int chunk_rows, int64_t tokens) {
    token = first_row - range.half + first_tap;
    taps = static_cast<int32_t>(range.count() - first_tap < kTapsAtOnce ? range.count() - first_tap : kTapsAtOnce);
    const int64_t met = rows - 1 + taps;  // tokens
    const int64_t before = token < 0 ? -token : 0, within = tokens - token < met ? tokens - token : met;
    from = static_cast<int32_t>((before < met ? before : met) / chunk_rows);
    to = within <= before ? from : static_cast<int32_t>((within + chunk_rows - 1) / chunk_rows);
  }
};

}  // namespace lat
