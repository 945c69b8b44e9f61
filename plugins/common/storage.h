// Rows of float32, float16 or bfloat16 in memory, to and from float32, in which every kernel computes.
#pragma once

#include "common/kernel_abi.h"
#include "common/vector.h"

namespace lat::LAT_ARCH {

// Storage types of 16 bits.
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

inline void read_numbers(const BFloat16* from, int64_t count, float* to) {
  for (int64_t at = 0; at < count; ++at) to[at] = to_float(from[at]);
}

inline void read_numbers(const Float16* from, int64_t count, float* to) {
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

inline void write_numbers(const float* from, int64_t count, BFloat16* to) {
  for (int64_t at = 0; at < count; ++at) to[at] = from_float(from[at], BFloat16{});
}

inline void write_numbers(const float* from, int64_t count, Float16* to) {
  int64_t at = 0;
#if defined(__F16C__)
  for (; at + 8 <= count; at += 8)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + at),
                     _mm256_cvtps_ph(_mm256_loadu_ps(from + at), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#endif
  for (; at < count; ++at) to[at] = from_float(from[at], Float16{});
}

// The numbers `first` to `first + size` of every row of one row of a batch: those of a head, say.
class Rows {
 public:
  Rows(int32_t dtype, const lat_rows& rows, int64_t batch, int64_t first, int64_t size)
      : dtype_(dtype),
        number_bytes_(dtype == LAT_FLOAT32 ? 4 : 2),
        row_bytes_(rows.row_stride * number_bytes_),
        size_(size),
        data_(static_cast<char*>(rows.data) + (batch * rows.batch_stride + first) * number_bytes_) {}

  // Of a matrix of weights, which is only read.
  Rows(int32_t dtype, const void* data, int64_t stride, int64_t first, int64_t size)
      : Rows(dtype, lat_rows{const_cast<void*>(data), 0, stride}, 0, first, size) {}

  // One row, and zeros up to `padded`.
  void read(int64_t row, float* to, int64_t padded) const {
    const char* from = data_ + row * row_bytes_;
    if (dtype_ == LAT_FLOAT32)
      std::memcpy(to, from, static_cast<std::size_t>(size_) * sizeof(float));
    else if (dtype_ == LAT_FLOAT16)
      read_numbers(reinterpret_cast<const Float16*>(from), size_, to);
    else
      read_numbers(reinterpret_cast<const BFloat16*>(from), size_, to);
    for (int64_t at = size_; at < padded; ++at) to[at] = 0.0f;
  }
  void read(int64_t row, float* to) const { read(row, to, size_); }

  // `count` rows from `row` on, to rows of `padded` numbers.
  void read(int64_t row, int64_t count, float* to, int64_t padded) const {
    for (int64_t at = 0; at < count; ++at) {
      if (at + kRowsAhead < count) prefetch(row + at + kRowsAhead);
      read(row + at, to + at * padded, padded);
    }
  }

  // Asks for a row that is read soon: rows of one head lie further apart than the processor's own prefetcher follows.
  void prefetch(int64_t row) const {
    const char* from = data_ + row * row_bytes_;
    for (int64_t at = 0; at < size_ * number_bytes_; at += kCacheLine) __builtin_prefetch(from + at);
  }

  void write(int64_t row, const float* from) const {
    char* to = data_ + row * row_bytes_;
    if (dtype_ == LAT_FLOAT32)
      std::memcpy(to, from, static_cast<std::size_t>(size_) * sizeof(float));
    else if (dtype_ == LAT_FLOAT16)
      write_numbers(from, size_, reinterpret_cast<Float16*>(to));
    else
      write_numbers(from, size_, reinterpret_cast<BFloat16*>(to));
  }

  void write_zeros(int64_t row) const {
    std::memset(data_ + row * row_bytes_, 0, static_cast<std::size_t>(size_ * number_bytes_));
  }

  static constexpr int64_t kRowsAhead = 8;

 private:
  static constexpr int64_t kCacheLine = 64;

  int32_t dtype_;
  int64_t number_bytes_, row_bytes_, size_;
  char* data_;
};

}  // namespace lat::LAT_ARCH
