// Y = X W^T + b, as torch.nn.Linear has it: X in float32, W and b in their storage type, Y in float32.
#pragma once

#include "common/small_product.h"

namespace lat::LAT_ARCH {

// Up to so many rows of X, dot products with the rows of W as they lie are faster than transposing W for `product`.
constexpr int64_t kDotRows = 8;

inline int64_t projection_floats(int64_t width) { return width * kRows + kRows * kRows + width; }

inline float dot(const float* a, const float* b, int64_t count) {
  Vector sum[4] = {};
  int64_t at = 0;
  for (; at + 4 * kLanes <= count; at += 4 * kLanes)
    for (int i = 0; i < 4; ++i) sum[i] += load(a + at + i * kLanes) * load(b + at + i * kLanes);
  for (; at + kLanes <= count; at += kLanes) sum[0] += load(a + at) * load(b + at);
  const Vector all = (sum[0] + sum[1]) + (sum[2] + sum[3]);
  float total = 0;
  for (int lane = 0; lane < kLanes; ++lane) total += all[lane];
  for (; at < count; ++at) total += a[at] * b[at];
  return total;
}

// Columns `from` to `to` of Y [rows][...] from X [rows][width]; `bias` may be null.
template <class Element>
void project(const float* x, int64_t x_stride, int64_t rows, const Element* weight, const Element* bias, int64_t width,
             int64_t from, int64_t to, float* y, int64_t y_stride, float* scratch) {
  float* panel = scratch;               // [width][64]: rows of W across the lanes
  float* tile = panel + width * kRows;  // [64][64]
  float* weight_row = tile + kRows * kRows;
  if (rows <= kDotRows) {
    for (int64_t column = from; column < to; ++column) {
      read_row(weight + column * width, width, weight_row);
      const float add = bias ? to_float(bias[column]) : 0.0f;
      for (int64_t row = 0; row < rows; ++row)
        y[row * y_stride + column] = dot(x + row * x_stride, weight_row, width) + add;
    }
    return;
  }
  for (int64_t first = from; first < to; first += kRows) {
    const int64_t columns = smaller_of(kRows, to - first);
    for (int64_t column = 0; column < kRows; ++column) {
      if (column < columns) read_row(weight + (first + column) * width, width, weight_row);
      for (int64_t k = 0; k < width; ++k) panel[k * kRows + column] = column < columns ? weight_row[k] : 0.0f;
    }
    const int vectors = static_cast<int>(pieces(columns, kLanes));
    for (int64_t row = 0; row < rows; row += kRows) {
      const int64_t count = smaller_of(kRows, rows - row);
      product<true, false>(count, x + row * x_stride, x_stride, panel, width, tile, kRows, vectors);
      for (int64_t i = 0; i < count; ++i)
        for (int64_t column = 0; column < columns; ++column)
          y[(row + i) * y_stride + first + column] =
              tile[i * kRows + column] + (bias ? to_float(bias[first + column]) : 0.0f);
    }
  }
}

}  // namespace lat::LAT_ARCH
