// Softmax attention of up to 64 rows of queries over keys that come in chunks, in one pass (the online softmax of
// Milakov and Gimelshein, arXiv 1805.02867): what is kept between chunks is a maximum, a sum and a context a row.
//
// Rows of queries lie across the lanes. So the largest score and the sum of a row are lane by lane, and a key or a
// value is read as scalars, in the order in which it lies in memory.
#pragma once

#include "common/small_product.h"

namespace lat::LAT_ARCH {

constexpr float kLog2E = 1.4426950408889634f;
// A row's maximum before its first key, and the score of a key that a row must not see: far enough below it to give
// exactly 0, both finite.
constexpr float kNoMaximum = -1e30f;
constexpr float kMasked = -3e38f;

class RowAttention {
 public:
  // Floats of scratch for chunks of `chunk` keys of `width` numbers.
  static int64_t floats(int64_t width, int64_t chunk) { return (2 * width + chunk + 2) * kRows; }

  RowAttention(float* scratch, int64_t width)
      : width_(width),
        maximum_(scratch),
        sum_(scratch + kRows),
        query_(scratch + 2 * kRows),
        context_(query_ + width * kRows),
        scores_(context_ + width * kRows) {}

  // Takes `rows` queries, each times `scale`, as the rows of the next attention.
  template <class Element>
  void start(const Element* query, int64_t row_stride, int64_t rows, float scale) {
    vectors_ = static_cast<int>(pieces(rows, kLanes));
    first_ = true;
    const float factor = scale * kLog2E;  // scores are exponents of 2
    for (int64_t row = 0; row < vectors_ * kLanes; row += kLanes) {
      const int64_t count = smaller_of(kLanes, rows - row);
      int64_t d = 0;
      for (; d + kLanes <= width_; d += kLanes) {
        Vector tile[kLanes];
        for (int i = 0; i < kLanes; ++i)
          tile[i] = i < count ? read_vector(query + (row + i) * row_stride + d) * factor : Vector{};
        transpose(tile);
        for (int i = 0; i < kLanes; ++i) store(query_ + (d + i) * kRows + row, tile[i]);
      }
      for (; d < width_; ++d)
        for (int64_t i = 0; i < kLanes; ++i)
          query_[d * kRows + row + i] = i < count ? to_float(query[(row + i) * row_stride + d]) * factor : 0.0f;
    }
    for (int64_t row = 0; row < kRows; ++row) {
      maximum_[row] = kNoMaximum;
      sum_[row] = 0.0f;
    }
  }

  // Scores of `count` keys, rows `stride` apart, which `mask` may change before `add_values`.
  void score(const float* keys, int64_t stride, int64_t count) {
    count_ = count;
    product<true, false>(count, keys, stride, query_, width_, scores_, kRows, vectors_);
  }

  // Only rows `from` to `to` see key `at` of this chunk.
  void mask(int64_t at, int64_t from, int64_t to) {
    float* scores = scores_ + at * kRows;
    const Integers numbers = lane_numbers();
    for (int v = 0; v < vectors_; ++v) {
      const Integers row = numbers + v * kLanes;
      const Integers seen = (row >= static_cast<int32_t>(from)) & (row <= static_cast<int32_t>(to));
      store(scores + v * kLanes, seen ? load(scores + v * kLanes) : splat(kMasked));
    }
  }

  void add_values(const float* values, int64_t stride) {
    for (int v = 0; v < vectors_; ++v) weigh(v);
    if (first_)
      product<false, false>(width_, values, stride, scores_, count_, context_, kRows, vectors_);
    else
      product<false, true>(width_, values, stride, scores_, count_, context_, kRows, vectors_);
    first_ = false;
  }

  // The contexts of all rows, as they leave; 0 where a row saw no key.
  template <class Element>
  void finish(Element* output, int64_t row_stride, int64_t rows) {
    if (first_) {
      for (int64_t row = 0; row < rows; ++row) write_zeros(output + row * row_stride, width_);
      return;
    }
    for (int64_t row = 0; row < rows; row += kLanes) {
      const Vector sum = load(sum_ + row);
      const Vector inverse = sum > 0.0f ? 1.0f / sum : Vector{};
      const int64_t count = smaller_of(kLanes, rows - row);
      int64_t d = 0;
      for (; d + kLanes <= width_; d += kLanes) {
        Vector tile[kLanes];
        for (int i = 0; i < kLanes; ++i) tile[i] = load(context_ + (d + i) * kRows + row) * inverse;
        transpose(tile);
        for (int i = 0; i < count; ++i) write_vector(tile[i], output + (row + i) * row_stride + d);
      }
      for (; d < width_; ++d)
        for (int64_t i = 0; i < count; ++i)
          output[(row + i) * row_stride + d] = from_float(context_[d * kRows + row + i] * inverse[i], Element{});
    }
  }

  // All that later pieces of the same rows are joined with: maxima, sums and contexts [2 + width][64].
  void save(float* to) const {
    const std::size_t bytes = static_cast<std::size_t>(vectors_ * kLanes) * sizeof(float);
    std::memcpy(to, maximum_, bytes);
    std::memcpy(to + kRows, sum_, bytes);
    for (int64_t d = 0; d < width_; ++d) {
      if (first_)
        std::memset(to + (2 + d) * kRows, 0, bytes);
      else
        std::memcpy(to + (2 + d) * kRows, context_ + d * kRows, bytes);
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
      a = larger(a, load(scores + at * kRows));
      b = larger(b, load(scores + (at + 1) * kRows));
    }
    if (at < count_) a = larger(a, load(scores + at * kRows));
    const Vector maximum = larger(a, b);
    Vector even{}, odd{};
    for (at = 0; at + 2 <= count_; at += 2) {
      const Vector p = exp2_of_negative(load(scores + at * kRows) - maximum);
      const Vector q = exp2_of_negative(load(scores + (at + 1) * kRows) - maximum);
      store(scores + at * kRows, p);
      store(scores + (at + 1) * kRows, q);
      even += p;
      odd += q;
    }
    if (at < count_) {
      const Vector p = exp2_of_negative(load(scores + at * kRows) - maximum);
      store(scores + at * kRows, p);
      even += p;
    }
    const Vector shrink = exp2_of_negative(before - maximum);
    store(sum_ + v * kLanes, load(sum_ + v * kLanes) * shrink + (even + odd));
    store(maximum_ + v * kLanes, maximum);
    if (first_) return;
    for (int64_t d = 0; d < width_; ++d) {
      float* context = context_ + d * kRows + v * kLanes;
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

}  // namespace lat::LAT_ARCH
