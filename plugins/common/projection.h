// Y = X W^T + b, as torch.nn.Linear has it: X in float32, W and b in their storage type, Y in float32.
#pragma once

#include "common/matrix_product.h"
#include "common/panel.h"
#include "common/storage.h"

namespace lat::LAT_ARCH {

// Up to so many rows of X, dot products with the rows of W as they lie are faster than transposing W for a product.
inline constexpr int64_t kDotRows = 8;

inline int64_t projection_floats(int64_t width) { return (width + kPanelRows) * kPanelRows + width * kLanes; }

inline float dot(const float* a, const float* b, int64_t count) {
  Vector sum[4] = {};
  int64_t at = 0;
  for (; at + 4 * kLanes <= count; at += 4 * kLanes)
    for (int i = 0; i < 4; ++i) sum[i] += load(a + at + i * kLanes) * load(b + at + i * kLanes);
  for (; at + kLanes <= count; at += kLanes) sum[0] += load(a + at) * load(b + at);
  const Vector all = (sum[0] + sum[1]) + (sum[2] + sum[3]);
  float total = sum_of_lanes(all);
  for (; at < count; ++at) total += a[at] * b[at];
  return total;
}

// Columns `from` to `to` of Y [rows][...] from X [rows][width]; `bias`, in float32, may be null.
inline void project(const float* x, int64_t x_stride, int64_t rows, const Rows& weight, const float* bias,
                    int64_t width, int64_t from, int64_t to, float* y, int64_t y_stride, float* scratch) {
  float* panel = scratch;                    // [width][64]: rows of W across the lanes
  float* tile = panel + width * kPanelRows;  // [64][64]
  float* weights = tile + kPanelRows * kPanelRows;
  if (rows <= kDotRows) {
    for (int64_t column = from; column < to; ++column) {
      weight.read(column, weights);
      const float add = bias ? bias[column] : 0.0f;
      for (int64_t row = 0; row < rows; ++row)
        y[row * y_stride + column] = dot(x + row * x_stride, weights, width) + add;
    }
    return;
  }
  for (int64_t first = from; first < to; first += kPanelRows) {
    const int64_t columns = smaller_of(kPanelRows, to - first);
    for (int64_t column = 0; column < columns; column += kLanes) {
      const int64_t some = smaller_of(kLanes, columns - column);
      weight.read(first + column, some, weights, width);
      to_panel(weights, width, some, width, 1.0f, panel + column);
    }
    for (int64_t row = 0; row < rows; row += kPanelRows) {
      const int64_t count = smaller_of(kPanelRows, rows - row);
      multiply<Sum::set>(count, round_up(columns, kLanes), width, {x + row * x_stride, x_stride, 1},
                         {panel, kPanelRows}, {tile, kPanelRows});
      for (int64_t i = 0; i < count; ++i)
        for (int64_t column = 0; column < columns; ++column)
          y[(row + i) * y_stride + first + column] =
              tile[i * kPanelRows + column] + (bias ? bias[first + column] : 0.0f);
    }
  }
}

}  // namespace lat::LAT_ARCH
