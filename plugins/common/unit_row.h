// The L2 norm of a row, as torch.nn.functional.normalize takes it.
#pragma once

#include "common/smallest_norm.h"
#include "common/vector.h"

namespace lat::LAT_ARCH {

// Divides `width` floats, a multiple of kLanes whose tail is zero, by their norm; a row of zeros stays zero.
inline void normalize_row(float* row, int64_t width) {
  Vector squares{};
  for (int64_t d = 0; d < width; d += kLanes) squares += load(row + d) * load(row + d);
  const float norm = __builtin_sqrtf(sum_of_lanes(squares));
  const float divisor = norm > kSmallestNorm ? norm : kSmallestNorm;
  for (int64_t d = 0; d < width; d += kLanes) store(row + d, load(row + d) / divisor);
}

}  // namespace lat::LAT_ARCH
