// Softmax attention of up to 64 rows of queries over keys that come in chunks, in one pass (the online softmax of
// Milakov and Gimelshein, arXiv 1805.02867): what is kept between chunks is a maximum, a sum and a context a row.
//
// Rows of queries lie across the lanes. So the largest score and the sum of a row are lane by lane, and a key or a
// value is read as scalars, in the order in which it lies in memory.
#pragma once

#include "common/matrix_product.h"
#include "common/panel.h"
#include "common/vector_math.h"

namespace lat::LAT_ARCH {

// A row's maximum before its first key, and the score of a key that a row must not see: far enough below it to give
// exactly 0, both finite.
inline constexpr float kNoMaximum = -1e30f;
inline constexpr float kMasked = -3e38f;

class RowAttention {
 public:
  // Floats of scratch for chunks of `chunk` keys of `width` numbers.
  static int64_t floats(int64_t width, int64_t chunk) { return (2 * width + chunk + 2) * kPanelRows; }

  static int64_t part_floats(int64_t width) { return (2 + width) * kPanelRows; }

  RowAttention(float* scratch, int64_t width)
      : width_(width),
        maximum_(scratch),
        sum_(scratch + kPanelRows),
        query_(scratch + 2 * kPanelRows),
        context_(query_ + width * kPanelRows),
        scores_(context_ + width * kPanelRows) {}

  // Takes `rows` queries, `stride` apart, each times `scale`, as the rows of the next attention.
  void start(const float* query, int64_t stride, int64_t rows, float scale) {
    vectors_ = static_cast<int>(pieces(rows, kLanes));
    first_ = true;
    to_panel(query, stride, rows, width_, scale * kLog2E, query_);  // scores are exponents of 2
    for (int64_t row = 0; row < kPanelRows; ++row) {
      maximum_[row] = kNoMaximum;
      sum_[row] = 0.0f;
    }
  }

  // Scores of `count` keys, rows `stride` apart, which `mask` may change before `add_values`.
  void score(const float* keys, int64_t stride, int64_t count) {
    count_ = count;
    multiply<Sum::set>(count, vectors_ * kLanes, width_, {keys, stride, 1}, {query_, kPanelRows},
                       {scores_, kPanelRows});
  }

  // Only rows `from` to `to` see key `at` of this chunk.
  void mask(int64_t at, int64_t from, int64_t to) {
    float* scores = scores_ + at * kPanelRows;
    const Integers numbers = lane_numbers();
    for (int v = 0; v < vectors_; ++v) {
      const Integers row = numbers + v * kLanes;
      const Integers seen = (row >= static_cast<int32_t>(from)) & (row <= static_cast<int32_t>(to));
      store(scores + v * kLanes, seen ? load(scores + v * kLanes) : splat(kMasked));
    }
  }

  void add_values(const float* values, int64_t stride) {
    for (int v = 0; v < vectors_; ++v) weigh(v);
    const Left weighted{values, 1, stride};
    const Right weights{scores_, kPanelRows};
    if (first_)
      multiply<Sum::set>(width_, vectors_ * kLanes, count_, weighted, weights, {context_, kPanelRows});
    else
      multiply<Sum::add>(width_, vectors_ * kLanes, count_, weighted, weights, {context_, kPanelRows});
    first_ = false;
  }

  // The contexts of all rows, to rows `stride` apart; 0 where a row saw no key.
  void finish(float* output, int64_t stride, int64_t rows) {
    if (first_) std::memset(context_, 0, static_cast<std::size_t>(width_ * kPanelRows) * sizeof(float));
    for (int64_t row = 0; row < vectors_ * kLanes; row += kLanes) {
      const Vector sum = load(sum_ + row);
      store(sum_ + row, sum > 0.0f ? 1.0f / sum : Vector{});
    }
    from_panel(context_, sum_, rows, width_, output, stride);
  }

  // What `join` takes: maxima, sums and contexts [2 + width][64].
  void save(float* to) const {
    const std::size_t bytes = static_cast<std::size_t>(vectors_ * kLanes) * sizeof(float);
    std::memcpy(to, maximum_, bytes);
    std::memcpy(to + kPanelRows, sum_, bytes);
    for (int64_t d = 0; d < width_; ++d) {
      if (first_)
        std::memset(to + (2 + d) * kPanelRows, 0, bytes);
      else
        std::memcpy(to + (2 + d) * kPanelRows, context_ + d * kPanelRows, bytes);
    }
  }

 private:
  // Scores to weights in one vector of rows, and what was kept to the new maximum.
  void weigh(int v) {
    float* scores = scores_ + v * kLanes;
    const Vector before = load(maximum_ + v * kLanes);
    Vector a = before, b = before;
    int64_t at = 0;
    for (; at + 2 <= count_; at += 2) {
      a = larger(a, load(scores + at * kPanelRows));
      b = larger(b, load(scores + (at + 1) * kPanelRows));
    }
    if (at < count_) a = larger(a, load(scores + at * kPanelRows));
    const Vector maximum = larger(a, b);
    Vector even{}, odd{};
    for (at = 0; at + 2 <= count_; at += 2) {
      const Vector p = exp2_of_nonpositive(load(scores + at * kPanelRows) - maximum);
      const Vector q = exp2_of_nonpositive(load(scores + (at + 1) * kPanelRows) - maximum);
      store(scores + at * kPanelRows, p);
      store(scores + (at + 1) * kPanelRows, q);
      even += p;
      odd += q;
    }
    if (at < count_) {
      const Vector p = exp2_of_nonpositive(load(scores + at * kPanelRows) - maximum);
      store(scores + at * kPanelRows, p);
      even += p;
    }
    const Vector shrink = exp2_of_nonpositive(before - maximum);
    store(sum_ + v * kLanes, load(sum_ + v * kLanes) * shrink + (even + odd));
    store(maximum_ + v * kLanes, maximum);
    if (first_) return;
    for (int64_t d = 0; d < width_; ++d) {
      float* context = context_ + d * kPanelRows + v * kLanes;
      store(context, load(context) * shrink);
    }
  }

  int64_t width_;
  float* maximum_;
  float* sum_;
  float* query_;    // [width][64]
  float* context_;  // [width][64]
  float* scores_;   // [chunk][64], then weights
  int64_t count_ = 0;
  int vectors_ = 0;
  bool first_ = true;
};

// Collects the keys and values of an attention, and gives them to it a chunk at a time.
class KeyChunk {
 public:
  static int64_t floats(int64_t width, int64_t size) { return 2 * size * width + size; }

  KeyChunk(RowAttention& attention, int64_t width, int64_t size, float* scratch)
      : attention_(attention),
        width_(width),
        size_(size),
        keys_(scratch),
        values_(keys_ + size * width),
        seen_(reinterpret_cast<Seen*>(values_ + size * width)) {}

  // Where the next key and its value go. `added` says that they are there, and which rows see them.
  float* key() const { return keys_ + count_ * width_; }
  float* value() const { return values_ + count_ * width_; }
  void added(int64_t from = 0, int64_t to = kPanelRows - 1) {
    seen_[count_] = {static_cast<uint16_t>(from), static_cast<uint16_t>(to)};
    if (++count_ == size_) flush();
  }
  // For keys that are their own values: there is no value().
  void keys_are_values() { values_ = keys_; }

  void flush() {
    if (count_ == 0) return;
    attention_.score(keys_, width_, count_);
    for (int64_t i = 0; i < count_; ++i)
      if (seen_[i].from > 0 || seen_[i].to < kPanelRows - 1) attention_.mask(i, seen_[i].from, seen_[i].to);
    attention_.add_values(values_, width_);
    count_ = 0;
  }

 private:
  struct Seen {
    uint16_t from, to;
  };

  RowAttention& attention_;
  int64_t width_, size_;
  float *keys_, *values_;
  Seen* seen_;
  int64_t count_ = 0;
};

// Most pieces of keys of one attention.
inline constexpr int64_t kMostParts = 32;

// Joins what `save` wrote for `count` pieces of the keys, one after the other in `parts`, in their order: columns
// `from` to `to` of the contexts of `rows` rows, `stride` apart.
inline void join_parts(const float* parts, int64_t count, int64_t width, int64_t rows, int64_t from, int64_t to,
                       float* context, int64_t stride) {
  const int64_t floats = RowAttention::part_floats(width);
  for (int64_t first = 0; first < rows; first += kLanes) {
    Vector maximum = splat(kNoMaximum), sum{}, factor[kMostParts];
    for (int64_t part = 0; part < count; ++part) maximum = larger(maximum, load(parts + part * floats + first));
    for (int64_t part = 0; part < count; ++part) {
      factor[part] = exp2_of_nonpositive(load(parts + part * floats + first) - maximum);
      sum += load(parts + part * floats + kPanelRows + first) * factor[part];
    }
    const Vector inverse = sum > 0.0f ? 1.0f / sum : Vector{};
    for (int64_t column = from; column < to; ++column) {
      Vector total{};
      for (int64_t part = 0; part < count; ++part)
        total += load(parts + part * floats + (2 + column) * kPanelRows + first) * factor[part];
      total *= inverse;
      for (int64_t row = first; row < smaller_of(rows, first + kLanes); ++row)
        context[row * stride + column] = total[row - first];
    }
  }
}

}  // namespace lat::LAT_ARCH
