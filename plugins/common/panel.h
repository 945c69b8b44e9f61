// Panels: up to 64 rows that lie across the lanes, [width][64]. What is computed for each row is then lane by lane, and
// a panel is the right matrix of a product.
#pragma once

#include "common/vector.h"

namespace lat::LAT_ARCH {

inline constexpr int64_t kPanelRows = 64;

// Rows, `stride` apart, times `factor`; zeros up to a whole vector of rows, and nothing beyond.
inline void to_panel(const float* rows, int64_t stride, int64_t count, int64_t width, float factor, float* panel) {
  for (int64_t row = 0; row < count; row += kLanes) {
    const int64_t real = smaller_of(kLanes, count - row);
    int64_t d = 0;
    for (; d + kLanes <= width; d += kLanes) {
      Vector tile[kLanes];
      for (int i = 0; i < kLanes; ++i) tile[i] = i < real ? load(rows + (row + i) * stride + d) * factor : Vector{};
      transpose(tile);
      for (int i = 0; i < kLanes; ++i) store(panel + (d + i) * kPanelRows + row, tile[i]);
    }
    for (; d < width; ++d)
      for (int64_t i = 0; i < kLanes; ++i)
        panel[d * kPanelRows + row + i] = i < real ? rows[(row + i) * stride + d] * factor : 0.0f;
  }
}

// Row i of the panel times factors[i], to rows `stride` apart.
inline void from_panel(const float* panel, const float* factors, int64_t count, int64_t width, float* rows,
                       int64_t stride) {
  for (int64_t row = 0; row < count; row += kLanes) {
    const Vector factor = load(factors + row);
    const int64_t real = smaller_of(kLanes, count - row);
    int64_t d = 0;
    for (; d + kLanes <= width; d += kLanes) {
      Vector tile[kLanes];
      for (int i = 0; i < kLanes; ++i) tile[i] = load(panel + (d + i) * kPanelRows + row) * factor;
      transpose(tile);
      for (int i = 0; i < real; ++i) store(rows + (row + i) * stride + d, tile[i]);
    }
    for (; d < width; ++d)
      for (int64_t i = 0; i < real; ++i)
        rows[(row + i) * stride + d] = panel[d * kPanelRows + row + i] * factors[row + i];
  }
}

}  // namespace lat::LAT_ARCH
