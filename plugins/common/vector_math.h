// Functions of whole vectors: powers of 2 for softmax, the collision rate of two codes and its integer powers.
#pragma once

#include "common/collision_rate.h"
#include "common/vector.h"

namespace lat::LAT_ARCH {

inline constexpr float kLog2E = 1.4426950408889634f;

// 2^x for x <= 0; exactly 0 below the smallest normal number. 2e-9 off before rounding: the interpolation of 2^f at the
// Chebyshev nodes of [-1/2, 1/2], degree 6.
inline Vector exp2_of_nonpositive(Vector x) {
  const Vector clamped = larger(x, splat(-127.0f));
  // Adding 1.5 * 2^23 rounds to the nearest integer and leaves it in the low bits.
  const Vector shifted = clamped + 12582912.0f;
  const Vector f = clamped - (shifted - 12582912.0f);
  Vector p = splat(1.5461444725e-04f);
  p = p * f + 1.3400428178e-03f;
  p = p * f + 9.6180566784e-03f;
  p = p * f + 5.5503272267e-02f;
  p = p * f + 2.4022650922e-01f;
  p = p * f + 6.9314720670e-01f;
  p = p * f + 1.0f;
  Integers bits, exponent;
  std::memcpy(&bits, &p, sizeof p);
  std::memcpy(&exponent, &shifted, sizeof shifted);
  bits += exponent << 23;
  Vector result;
  std::memcpy(&result, &bits, sizeof result);
  return x < -126.0f ? Vector{} : result;
}

// 1 - acos(x) / pi for x clipped to [-1, 1]: the chance that one random hyperplane does not part two unit vectors.
// Relative error at most 3e-7 for every x, 0 and 1 included; exact at -1, 0 and 1. tests/native proves it. 1 - |x| is
// exact near 1.
inline Vector collision_rate(Vector x) {
  const Vector size = (Vector)((Integers)x & 0x7fffffff);
  const Vector root = square_root(larger(1.0f - size, Vector{}));
  const Vector angle = root * collision_series(size);
  return x < 0.0f ? angle : 1.0f - angle;
}

inline constexpr int64_t kPowersAtOnce = 4 * kLanes;

// x[i] = collision_rate(x[i])^exponent for i < kPowersAtOnce, by repeated squaring; exponent >= 1.
inline void collision_rates_to_power(float* x, int64_t exponent) {
  Vector base[4], power[4];
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
