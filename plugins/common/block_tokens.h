// Tokens of a batch that are not padding, for ops that skip padded keys and write zeros for padded rows.
#pragma once

#include "common/block_convert.h"
#include "common/block_memory.h"

namespace lat::LAT_ARCH {

// Positions of the tokens of each row of the batch, in order.
class Tokens {
 public:
  Tokens(int64_t batch, int64_t tokens) : batch_(batch), stride_(tokens), positions_(batch * tokens), counts_(batch) {}

  explicit operator bool() const { return positions_ && counts_; }

  // Once all memory is there: before that nothing is read.
  void find(const int32_t* mask) const {
    for (int64_t b = 0; b < batch_; ++b) {
      int64_t count = 0;
      for (int64_t i = 0; i < stride_; ++i) {
        if (mask[b * stride_ + i] != LAT_PADDING) positions_.data()[b * stride_ + count++] = i;
      }
      counts_.data()[b] = count;
    }
  }

  int64_t count(int64_t b) const { return counts_.data()[b]; }
  const int64_t* of(int64_t b) const { return positions_.data() + b * stride_; }

 private:
  int64_t batch_, stride_;
  Buffer<int64_t> positions_, counts_;
};

inline void zero_padded_rows(int32_t dtype, const int32_t* mask, int64_t batch, int64_t tokens, int64_t width,
                             const lat_rows& output) {
  for (int64_t b = 0; b < batch; ++b) {
    const Rows rows(dtype, output, b, 0, width);
    for (int64_t i = 0; i < tokens; ++i) {
      if (mask[b * tokens + i] == LAT_PADDING) rows.write_zeros(i);
    }
  }
}

}  // namespace lat::LAT_ARCH
