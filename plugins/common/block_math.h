// Functions of whole registers: exp of what a softmax meets, the collision rate of two codes, integer powers.
#pragma once

#include "common/block_vector.h"

namespace lat::LAT_ARCH {

// exp(x) for x <= 0, at most 2 units in the last place off; exactly 0 below -87, where float32 becomes denormal.
inline Vec exp_of_nonpositive(Vec x) {
  constexpr float kToInteger = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, kept in the low bits
  const Vec clamped = maximum(x, splat(-87.0f));
  const Vec shifted = clamped * 1.44269504f + kToInteger;
  const Vec whole = shifted - kToInteger;
  // ln 2 in two parts; the first has few bits, so that its product is exact.
  const Vec rest = (clamped - whole * 0.693359375f) + whole * 2.12194440e-4f;
  Vec series = rest * 1.9875691500e-4f + 1.3981999507e-3f;  // Cephes expf
  series = series * rest + 8.3334519073e-3f;
  series = series * rest + 4.1665795894e-2f;
  series = series * rest + 1.6666665459e-1f;
  series = series * rest + 5.0000001201e-1f;
  const Vec fraction = series * (rest * rest) + rest + 1.0f;
  const IntVec exponent = ((IntVec)shifted - (IntVec)splat(kToInteger)) << 23;
  const Vec result = (Vec)((IntVec)fraction + exponent);
  return x < -87.0f ? Vec{} : result;
}

// 1 - acos(x) / pi for x clipped to [-1, 1]: the chance that one random hyperplane does not part two unit vectors.
// Relative error at most 3e-7 for every x, 0 and 1 included; exact at -1, 0 and 1. tests/native proves it.
//
// For a = |x|: acos(a) / pi = sqrt(1 - a) * P(a), where 1 - a is exact near 1 and P, the minimax polynomial of degree 7
// of the relative error (Remez), is off by 1.5e-8. The rate is that for x < 0, and 1 minus that for x >= 0.
inline Vec collision_rate(Vec x) {
  const Vec size = (Vec)((IntVec)x & 0x7fffffff);
  const Vec beyond = 1.0f - size;
  const Vec root = square_root(maximum(beyond, Vec{}));
  Vec series = size * -0x1.a25e6cp-12f + 0x1.14f92p-9f;
  series = series * size + -0x1.6392dcp-8f;
  series = series * size + 0x1.41e9p-7f;
  series = series * size + -0x1.059dap-6f;
  series = series * size + 0x1.d00894p-6f;
  series = series * size + -0x1.17cb1p-4f;
  series = series * size + 0.5f;
  const Vec angle = root * series;
  return x < 0.0f ? angle : 1.0f - angle;
}

inline constexpr int64_t kPowersAtOnce = 4 * kLanes;

// x[i] = collision_rate(x[i])^exponent for i < kPowersAtOnce, by repeated squaring; exponent >= 1.
inline void collision_rates_to_power(float* x, int64_t exponent) {
  Vec base[4], power[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) base[i] = collision_rate(load(x + i * kLanes)), power[i] = splat(1.0f);
  for (;;) {
    if (exponent & 1) {
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) power[i] *= base[i];
    }
    exponent >>= 1;
    if (exponent == 0) break;
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) base[i] *= base[i];
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) store(x + i * kLanes, power[i]);
}

}  // namespace lat::LAT_ARCH
