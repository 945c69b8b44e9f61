// One SIMD register of floats, as wide as the instruction set of this build has it.
#pragma once

#include <stdint.h>

#include "common/cpu_arch.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace lat::LAT_ARCH {

#if defined(__AVX512F__)
inline constexpr int kLanes = 16;
#elif defined(__AVX2__)
inline constexpr int kLanes = 8;
#else
inline constexpr int kLanes = 4;  // SSE2, which every x86-64 has, and NEON
#endif

typedef float Vec __attribute__((vector_size(kLanes * 4)));
typedef int32_t IntVec __attribute__((vector_size(kLanes * 4)));

inline Vec load(const float* from) {
  Vec v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
}

inline void store(float* to, Vec v) { __builtin_memcpy(to, &v, sizeof v); }

inline Vec splat(float x) { return x - Vec{}; }

inline int64_t round_up(int64_t size, int64_t unit) { return (size + unit - 1) / unit * unit; }

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

inline Vec maximum(Vec a, Vec b) {
#if defined(__AVX512F__)
  return _mm512_maskz_max_ps(0xffff, a, b);  // the unmasked form warns of its own header in GCC 12
#elif defined(__AVX2__)
  return _mm256_max_ps(a, b);
#elif defined(__x86_64__)
  return _mm_max_ps(a, b);
#else
  return a > b ? a : b;
#endif
}

inline Vec square_root(Vec a) {
#if defined(__AVX512F__)
  return _mm512_maskz_sqrt_ps(0xffff, a);
#elif defined(__AVX2__)
  return _mm256_sqrt_ps(a);
#elif defined(__x86_64__)
  return _mm_sqrt_ps(a);
#elif defined(__aarch64__)
  return vsqrtq_f32(a);
#endif
}

// Lane i of the result is lane i ^ kBit.
template <int kBit>
inline Vec swap_lanes(Vec v) {
  IntVec order;
  for (int i = 0; i < kLanes; ++i) order[i] = i ^ kBit;
  return __builtin_shuffle(v, order);
}

// Lanes in the order of a tree: the same for every call, whatever the data.
inline float sum_of_lanes(Vec v) {
  if constexpr (kLanes > 8) v += swap_lanes<8 % kLanes>(v);
  if constexpr (kLanes > 4) v += swap_lanes<4 % kLanes>(v);
  v += swap_lanes<2>(v);
  v += swap_lanes<1>(v);
  return v[0];
}

inline float largest_lane(Vec v) {
  if constexpr (kLanes > 8) v = maximum(v, swap_lanes<8 % kLanes>(v));
  if constexpr (kLanes > 4) v = maximum(v, swap_lanes<4 % kLanes>(v));
  v = maximum(v, swap_lanes<2>(v));
  return maximum(v, swap_lanes<1>(v))[0];
}

}  // namespace lat::LAT_ARCH
