// Where in each row of a batch the tokens of some kind are.
#pragma once

#include "common/buffer.h"
#include "common/storage.h"

namespace lat::LAT_ARCH {

inline bool is_token(int32_t kind) { return kind != LAT_PADDING; }
inline bool is_global(int32_t kind) { return kind == LAT_GLOBAL; }

class Positions {
 public:
  Positions(int64_t batch, int64_t tokens)
      : batch_(batch), tokens_(tokens), positions_(batch * tokens), counts_(batch) {}

  explicit operator bool() const { return positions_ && counts_; }

  // Of every token whose kind `keep` takes, in order. Once all memory is there: before that nothing is read.
  template <class Keep>
  void find(const int32_t* mask, Keep keep) const {
    for (int64_t b = 0; b < batch_; ++b) {
      int64_t count = 0;
      int32_t* to = positions_.data() + b * tokens_;
      for (int64_t i = 0; i < tokens_; ++i)
        if (keep(mask[b * tokens_ + i])) to[count++] = static_cast<int32_t>(i);
      counts_.data()[b] = count;
    }
  }

  int64_t count(int64_t b) const { return counts_.data()[b]; }
  const int32_t* of(int64_t b) const { return positions_.data() + b * tokens_; }

 private:
  int64_t batch_, tokens_;
  Buffer<int32_t> positions_;
  Buffer<int64_t> counts_;
};

inline void zero_padded_rows(int32_t dtype, const int32_t* mask, int64_t batch, int64_t tokens, int64_t width,
                             const lat_rows& output) {
  for (int64_t b = 0; b < batch; ++b) {
    const Rows rows(dtype, output, b, 0, width);
    for (int64_t i = 0; i < tokens; ++i)
      if (mask[b * tokens + i] == LAT_PADDING) rows.write_zeros(i);
  }
}

}  // namespace lat::LAT_ARCH
