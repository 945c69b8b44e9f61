// One vector of float32 in the instruction set that this file is compiled for, and what kernels do with it.
// GCC's and Clang's vector extensions: the same source gives SSE2, AVX2, AVX-512 and NEON.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "common/cpu_arch.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace lat::LAT_ARCH {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
constexpr int kRegisters = 32;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
constexpr int kRegisters = 16;
#elif defined(__aarch64__)
constexpr int kLanes = 4;
constexpr int kRegisters = 32;
#else
constexpr int kLanes = 4;
constexpr int kRegisters = 16;
#endif

typedef float Vector __attribute__((vector_size(kLanes * 4)));
typedef int32_t Integers __attribute__((vector_size(kLanes * 4)));

inline Vector load(const float* from) {
  Vector value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

inline void store(float* to, Vector value) { std::memcpy(to, &value, sizeof value); }

inline Vector splat(float value) { return value - Vector{}; }

inline Vector larger(Vector a, Vector b) {
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

inline Vector square_root(Vector a) {
#if defined(__AVX512F__)
  return _mm512_maskz_sqrt_ps(0xffff, a);
#elif defined(__AVX2__)
  return _mm256_sqrt_ps(a);
#elif defined(__x86_64__)
  return _mm_sqrt_ps(a);
#elif defined(__aarch64__)
  return vsqrtq_f32(a);
#else
  for (int lane = 0; lane < kLanes; ++lane) a[lane] = __builtin_sqrtf(a[lane]);
  return a;
#endif
}

// Lane i of the result is lane i ^ kBit.
template <int kBit>
inline Vector swap_lanes(Vector v) {
  Integers order;
  for (int i = 0; i < kLanes; ++i) order[i] = i ^ kBit;
#if defined(__clang__)
  Vector swapped;
  for (int i = 0; i < kLanes; ++i) swapped[i] = v[order[i]];
  return swapped;
#else
  return __builtin_shuffle(v, order);
#endif
}

// Lanes in the order of a tree: the same for every call, whatever the data.
inline float sum_of_lanes(Vector v) {
  if constexpr (kLanes > 8) v += swap_lanes<8 % kLanes>(v);
  if constexpr (kLanes > 4) v += swap_lanes<4 % kLanes>(v);
  v += swap_lanes<2>(v);
  v += swap_lanes<1>(v);
  return v[0];
}

inline float largest_lane(Vector v) {
  if constexpr (kLanes > 8) v = larger(v, swap_lanes<8 % kLanes>(v));
  if constexpr (kLanes > 4) v = larger(v, swap_lanes<4 % kLanes>(v));
  v = larger(v, swap_lanes<2>(v));
  return larger(v, swap_lanes<1>(v))[0];
}

// rows[i][j] to rows[j][i], by log2(kLanes) perfect shuffles of the whole.
inline __attribute__((always_inline)) void transpose(Vector (&rows)[kLanes]) {
  Integers low, high;
  for (int lane = 0; lane < kLanes; ++lane) {
    low[lane] = lane / 2 + (lane % 2) * kLanes;
    high[lane] = low[lane] + kLanes / 2;
  }
#pragma GCC unroll 4
  for (int stage = 1; stage < kLanes; stage *= 2) {
    Vector mixed[kLanes];
#pragma GCC unroll 8
    for (int i = 0; i < kLanes / 2; ++i) {
#if defined(__clang__)
      for (int lane = 0; lane < kLanes; ++lane) {
        mixed[2 * i][lane] = lane % 2 ? rows[i + kLanes / 2][lane / 2] : rows[i][lane / 2];
        mixed[2 * i + 1][lane] = lane % 2 ? rows[i + kLanes / 2][(lane + kLanes) / 2] : rows[i][(lane + kLanes) / 2];
      }
#else
      mixed[2 * i] = __builtin_shuffle(rows[i], rows[i + kLanes / 2], low);
      mixed[2 * i + 1] = __builtin_shuffle(rows[i], rows[i + kLanes / 2], high);
#endif
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) rows[i] = mixed[i];
  }
}

// 0, 1, 2, ...
inline Integers lane_numbers() {
  Integers numbers;
  for (int lane = 0; lane < kLanes; ++lane) numbers[lane] = lane;
  return numbers;
}

inline int64_t smaller_of(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t larger_of(int64_t a, int64_t b) { return a > b ? a : b; }
inline int64_t pieces(int64_t count, int64_t piece) { return (count + piece - 1) / piece; }
inline int64_t round_up(int64_t count, int64_t unit) { return pieces(count, unit) * unit; }

}  // namespace lat::LAT_ARCH
