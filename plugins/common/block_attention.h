// Softmax attention of a block of up to 256 rows of one head: four panels over the same keys and values, each of which
// is read from memory once for all four.
#pragma once

#include "common/row_attention.h"
#include "common/storage.h"

namespace lat::LAT_ARCH {

class BlockAttention {
 public:
  static constexpr int64_t kPanels = 4;
  static constexpr int64_t kRows = kPanels * kPanelRows;
  // Every row sees every key that is added.
  static constexpr int64_t kNoWindow = INT64_MAX;

  static int64_t padded(int64_t size) { return round_up(size, kLanes); }
  static int64_t floats(int64_t size) {
    return kPanels * RowAttention::floats(size, kChunk) + kPanelRows * padded(size) + 2 * kChunk * size +
           2 * kChunk;  // positions
  }

  // Of heads of `size` numbers in sequences of `tokens`.
  BlockAttention(float* scratch, int64_t size, int64_t tokens)
      : size_(size),
        tokens_(tokens),
        panels_{{scratch, size},
                {scratch + RowAttention::floats(size, kChunk), size},
                {scratch + 2 * RowAttention::floats(size, kChunk), size},
                {scratch + 3 * RowAttention::floats(size, kChunk), size}},
        rows_(scratch + kPanels * RowAttention::floats(size, kChunk)),
        keys_(rows_ + kPanelRows * padded(size)),
        values_(keys_ + kChunk * size),
        positions_(reinterpret_cast<int64_t*>(values_ + kChunk * size)) {}

  // Takes the queries of tokens `first` to `end`, at most kRows. A panel is computed where `wanted(from, to)` holds of
  // its tokens.
  template <class Wanted>
  void start(const Rows& query, int64_t first, int64_t end, float scale, const Wanted& wanted) {
    first_ = first;
    end_ = end;
    for (int64_t panel = 0; panel < panels(); ++panel) {
      wanted_[panel] = wanted(from(panel), to(panel));
      if (!wanted_[panel]) continue;
      query.read(from(panel), to(panel) - from(panel), rows_, padded(size_));
      panels_[panel].start(rows_, padded(size_), to(panel) - from(panel), scale);
    }
  }

  int64_t panels() const { return pieces(end_ - first_, kPanelRows); }
  // Tokens of a panel.
  int64_t from(int64_t panel) const { return first_ + panel * kPanelRows; }
  int64_t to(int64_t panel) const { return smaller_of(end_, from(panel) + kPanelRows); }
  bool wanted(int64_t panel) const { return wanted_[panel]; }

  // From now on rows see added keys that are at most `window` tokens away. Call `flush` before.
  void see(int64_t window) { window_ = window; }

  // Keys come in the order of their tokens, but for a flush between.
  void add(const Rows& key, const Rows& value, int64_t token) {
    if (token + Rows::kRowsAhead < tokens_) {
      key.prefetch(token + Rows::kRowsAhead);
      value.prefetch(token + Rows::kRowsAhead);
    }
    key.read(token, keys_ + count_ * size_);
    value.read(token, values_ + count_ * size_);
    positions_[count_] = token;
    if (++count_ == kChunk) flush();
  }

  void flush() {
    for (int64_t panel = 0; panel < panels() && count_ > 0; ++panel)
      if (wanted_[panel]) attend(panels_[panel], from(panel), to(panel) - 1);
    count_ = 0;
  }

  // The rows of a panel, padded(size) apart; beyond `size` they hold zeros. The next call writes over them.
  float* finish(int64_t panel) {
    panels_[panel].finish(rows_, padded(size_), to(panel) - from(panel));
    return rows_;
  }

 private:
  // Keys of one product: with their scores and weights of a panel they fit the second-level cache.
  static constexpr int64_t kChunk = 128;

  // The keys of this chunk that some row from `first` to `last` sees.
  void attend(RowAttention& attention, int64_t first, int64_t last) {
    int64_t begin = 0, end = count_;
    if (window_ != kNoWindow) {
      while (begin < end && positions_[begin] < first - window_) ++begin;
      while (begin < end && positions_[end - 1] > last + window_) --end;
    }
    if (begin == end) return;
    attention.score(keys_ + begin * size_, size_, end - begin);
    for (int64_t i = begin; i < end && window_ != kNoWindow; ++i) {
      const int64_t from = positions_[i] - window_ - first, to = positions_[i] + window_ - first;
      if (from > 0 || to < last - first) attention.mask(i - begin, larger_of(from, 0), smaller_of(to, kPanelRows));
    }
    attention.add_values(values_ + begin * size_, size_);
  }

  int64_t size_, tokens_;
  RowAttention panels_[kPanels];
  float* rows_;  // [64][padded], of one panel at a time
  float* keys_;
  float* values_;
  int64_t* positions_;
  int64_t first_ = 0, end_ = 0, window_ = kNoWindow, count_ = 0;
  bool wanted_[kPanels] = {};
};

}  // namespace lat::LAT_ARCH
