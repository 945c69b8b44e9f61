// Nystroemformer's convolution of the values of a head: its taps over the tokens, zeros beyond both ends.
//
// A product: the taps, each row of the result one further to the right, are a matrix of one band, which is read from
// one array of taps between zeros with a row stride of -1.
#pragma once

#include "common/matrix_product.h"
#include "common/storage.h"

namespace lat::LAT_ARCH {

class ValueConvolution {
 public:
  // Of an op's arguments: floats of scratch for blocks of `rows` rows of `padded` numbers, a multiple of kLanes.
  template <class Args>
  static int64_t floats(const Args& args, int64_t rows, int64_t padded) {
    if (args.conv_weight == nullptr) return 0;
    const int64_t half = half_taps(args.taps, args.tokens);
    return taps_floats(half) + (rows + 2 * half + kRows) * padded;
  }

  // Without `conv_weight` it adds nothing. `value` are the values of head `head`, 0 to H - 1.
  template <class Args>
  ValueConvolution(const Args& args, int64_t head, const Rows& value, int64_t padded, float* scratch)
      : there_(args.conv_weight != nullptr),
        value_(value),
        tokens_(args.tokens),
        padded_(padded),
        half_(there_ ? half_taps(args.taps, tokens_) : 0),
        taps_(scratch),
        values_(scratch + taps_floats(half_)) {
    if (!there_) return;
    clear(taps_, taps_floats(half_));
    Rows(args.dtype, args.conv_weight, args.taps, args.taps / 2 - half_, 2 * half_ + 1).read(head, taps_ + kRows - 1);
  }

  // The rows that `add` may ask for next: of tokens `start` to `end`.
  void load(int64_t start, int64_t end) const {
    if (!there_) return;
    const int64_t before = larger_of(0, half_ - start), after = larger_of(0, end + half_ - tokens_);
    const int64_t rows = end - start + 2 * half_ - before - after;
    clear(values_, before * padded_);
    value_.read(start - half_ + before, rows, values_ + before * padded_, padded_);
    clear(values_ + (before + rows) * padded_, after * padded_);
  }

  // Adds the convolution at tokens start + from, ... to `count` rows of `padded` numbers.
  void add(int64_t from, int64_t count, float* rows) const {
    if (!there_) return;
    for (int64_t i = 0; i < count; i += kRows) {
      const int64_t some = smaller_of(kRows, count - i);
      multiply<Sum::add>(some, padded_, 2 * half_ + some, {taps_ + kRows - 1, -1, 1},
                         {values_ + (from + i) * padded_, padded_}, {rows + i * padded_, padded_});
    }
  }

 private:
  // Rows of one product.
  static constexpr int64_t kRows = tile_rows(kTileVectors);

  // To either side; taps further out than the sequence is long meet only zeros.
  static int64_t half_taps(int64_t taps, int64_t tokens) { return smaller_of(taps / 2, tokens - 1); }
  static int64_t taps_floats(int64_t half) { return round_up(2 * half + 1 + 2 * (kRows - 1), 16); }

  bool there_;
  Rows value_;
  int64_t tokens_, padded_, half_;
  float *taps_, *values_;
};

}  // namespace lat::LAT_ARCH
