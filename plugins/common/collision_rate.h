// 1 - acos(x) / pi for x in [-1, 1]: the chance that one random hyperplane does not part two unit vectors of cosine x.
// What CPU and CUDA kernels know of it; collision_rate_test.cpp holds both series against acos in double.
//
// For a = |x| the angle acos(a) / pi is sqrt(1 - a) times a smooth function, for which a polynomial stands; the rate is
// the angle for x < 0, and 1 minus it for x >= 0. So it is exact at -1 and 1.
#pragma once

#include "common/host_device.h"

namespace lat {

// acos(a) / pi / sqrt(1 - a), 0 <= a <= 1, of a number or a vector: minimax of the relative error (Remez), 1.5e-8 off.
template <class Numbers>
__attribute__((always_inline)) LAT_HOST_DEVICE Numbers collision_series(Numbers a) {
  Numbers series = a * -0x1.a25e6cp-12f + 0x1.14f92p-9f;
  series = series * a + -0x1.6392dcp-8f;
  series = series * a + 0x1.41e9p-7f;
  series = series * a + -0x1.059dap-6f;
  series = series * a + 0x1.d00894p-6f;
  series = series * a + -0x1.17cb1p-4f;
  return series * a + 0.5f;
}

// The same in powers of 1 - a, 5.7e-6 off: for weights that are rounded to 16 bits. What a rate's relative error is,
// its T-th power has T times.
constexpr int kShortCollisionSeries = 5;
struct ShortCollisionSeries {
  float term[kShortCollisionSeries];
};
constexpr ShortCollisionSeries short_collision_series() {
  return {{0x1.ccf6eep-2f, 0x1.32579ap-5f, 0x1.30bed8p-7f, 0x1.a9f614p-12f, 0x1.667698p-9f}};
}

}  // namespace lat
