// One vector of float32 in the instruction set that this file is compiled for, and what kernels do with it.
// GCC's and Clang's vector extensions: the same source gives SSE2, AVX2, AVX-512 and NEON.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "common/cpu_arch.h"

#if defined(__F16C__)
#include <immintrin.h>
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

inline Vector larger(Vector a, Vector b) { return a > b ? a : b; }

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

// 2^x for x <= 0; exactly 0 below the smallest normal number. 2e-9 off before rounding: the interpolation of 2^f at the
// Chebyshev nodes of [-1/2, 1/2], degree 6.
inline Vector exp2_of_negative(Vector x) {
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

// Storage types. A kernel is written once for any of them and computes in float32.
struct Float32 {
  float value;
};
struct Float16 {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

inline float bits_to_float(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline uint32_t float_to_bits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline float to_float(Float32 x) { return x.value; }

inline float to_float(BFloat16 x) { return bits_to_float(static_cast<uint32_t>(x.bits) << 16); }

inline float to_float(Float16 x) {
#if defined(__F16C__)
  return _cvtsh_ss(x.bits);
#elif defined(__aarch64__)
  __fp16 half;
  std::memcpy(&half, &x.bits, sizeof half);
  return static_cast<float>(half);
#else
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000) << 16;
  const uint32_t rest = static_cast<uint32_t>(x.bits & 0x7fff) << 13;
  if ((x.bits & 0x7c00) == 0x7c00) return bits_to_float(sign | rest | 0x7f800000);
  // 2^112 moves the exponent's bias from 15 to 127, subnormals included.
  return bits_to_float(sign | float_to_bits(bits_to_float(rest) * 5.192296858534828e33f));
#endif
}

inline Float32 from_float(float x, Float32) { return {x}; }

// To the nearest, ties to even; NaN stays NaN.
inline BFloat16 from_float(float x, BFloat16) {
  const uint32_t bits = float_to_bits(x);
  if (x != x) return {static_cast<uint16_t>((bits >> 16) | 0x40)};
  return {static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
}

inline Float16 from_float(float x, Float16) {
#if defined(__F16C__)
  return {static_cast<uint16_t>(_cvtss_sh(x, 0))};
#elif defined(__aarch64__)
  const __fp16 half = static_cast<__fp16>(x);
  uint16_t bits;
  std::memcpy(&bits, &half, sizeof bits);
  return {bits};
#else
  const uint32_t bits = float_to_bits(x);
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000);
  const uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return {static_cast<uint16_t>(sign | 0x7e00)};
  if (magnitude >= 0x477ff000) return {static_cast<uint16_t>(sign | 0x7c00)};
  if (magnitude < 0x38800000) {
    // Below 2^-14: adding 1/2 rounds at the last bit of a subnormal half and leaves it in the low bits.
    const uint32_t rounded = float_to_bits(bits_to_float(magnitude) + 0.5f) - float_to_bits(0.5f);
    return {static_cast<uint16_t>(sign | rounded)};
  }
  const uint32_t rounded = magnitude + 0xfff + ((magnitude >> 13) & 1) - (112u << 23);
  return {static_cast<uint16_t>(sign | (rounded >> 13))};
#endif
}

inline void read_row(const Float32* from, int64_t count, float* to) {
  std::memcpy(to, from, static_cast<std::size_t>(count) * sizeof(float));
}

inline void read_row(const BFloat16* from, int64_t count, float* to) {
  for (int64_t at = 0; at < count; ++at) to[at] = to_float(from[at]);
}

inline void read_row(const Float16* from, int64_t count, float* to) {
  int64_t at = 0;
#if defined(__AVX512F__)
  for (; at + 16 <= count; at += 16)
    _mm512_storeu_ps(to + at,
                     _mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + at))));
#elif defined(__F16C__)
  for (; at + 8 <= count; at += 8)
    _mm256_storeu_ps(to + at, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + at))));
#endif
  for (; at < count; ++at) to[at] = to_float(from[at]);
}

template <class Element>
inline void write_row(const float* from, int64_t count, Element* to) {
  for (int64_t at = 0; at < count; ++at) to[at] = from_float(from[at], Element{});
}

// kLanes numbers.
inline Vector read_vector(const Float32* from) { return load(&from->value); }

template <class Element>
inline Vector read_vector(const Element* from) {
  float numbers[kLanes];
  read_row(from, kLanes, numbers);
  return load(numbers);
}

inline void write_vector(Vector value, Float32* to) { store(&to->value, value); }

template <class Element>
inline void write_vector(Vector value, Element* to) {
  float numbers[kLanes];
  store(numbers, value);
  write_row(numbers, kLanes, to);
}

template <class Element>
inline void write_zeros(Element* to, int64_t count) {
  std::memset(static_cast<void*>(to), 0, static_cast<std::size_t>(count) * sizeof(Element));
}

inline int64_t smaller_of(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t larger_of(int64_t a, int64_t b) { return a > b ? a : b; }
inline int64_t pieces(int64_t count, int64_t piece) { return (count + piece - 1) / piece; }

}  // namespace lat::LAT_ARCH
