// Rows of float32, float16 or bfloat16 storage to and from rows of float32 padded with zeros to whole vectors.
#pragma once

#include "common/block_vector.h"
#include "common/kernel_abi.h"

namespace lat::LAT_ARCH {

inline float from_bits(uint32_t bits) {
  float x;
  __builtin_memcpy(&x, &bits, sizeof x);
  return x;
}

inline uint32_t to_bits(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  return bits;
}

inline float from_bfloat16(uint16_t half) { return from_bits(uint32_t{half} << 16); }

// To nearest, ties to even; NaN stays NaN.
inline uint16_t to_bfloat16(float x) {
  const uint32_t bits = to_bits(x);
  if (x != x) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

inline float from_float16(uint16_t half) {
  const uint32_t sign = uint32_t{half & 0x8000u} << 16, rest = half & 0x7fffu;
  if (rest >= 0x7c00) return from_bits(sign | 0x7f800000 | (rest & 0x3ff) << 13);
  // As a float32 with the exponent of a float16 its value is 2^112 too small; the product is exact, denormals included.
  return from_bits(sign | to_bits(from_bits(rest << 13) * 0x1p112f));
}

inline uint16_t to_float16(float x) {
  const uint32_t bits = to_bits(x), sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;
  if (size > 0x7f800000) return static_cast<uint16_t>(sign | 0x7e00);
  if (size >= 0x477ff000) return static_cast<uint16_t>(sign | 0x7c00);  // rounds to 65536 or more
  if (size < 0x38800000) {  // denormal: the addition rounds where the last bit of a float16 is
    return static_cast<uint16_t>(sign | (to_bits(from_bits(size) + 0.5f) - 0x3f000000));
  }
  return static_cast<uint16_t>(sign | ((size - 0x38000000 + 0xfff + (size >> 13 & 1)) >> 13));
}

// How many numbers the processor converts at once; the rest goes one by one, to the same bits.
inline int64_t load_float16(const uint16_t* from, int64_t count, float* to) {
  int64_t i = 0;
#if defined(__AVX512F__)
  for (; i + 16 <= count; i += 16) {
    const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + i));
    store(to + i, _mm512_maskz_cvtph_ps(0xffff, halves));
  }
#elif defined(__F16C__)
  for (; i + 8 <= count; i += 8) {
    _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i))));
  }
#else
  (void)from, (void)count, (void)to;
#endif
  return i;
}

inline int64_t store_float16(const float* from, int64_t count, uint16_t* to) {
  int64_t i = 0;
#if defined(__F16C__)
  for (; i + 8 <= count; i += 8) {
    const __m128i halves = _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i), halves);
  }
#else
  (void)from, (void)count, (void)to;
#endif
  return i;
}

// `count` numbers from element `offset` on, then zeros up to `padded`.
inline void load_row(lat_dtype dtype, const void* rows, int64_t offset, int64_t count, float* to, int64_t padded) {
  if (dtype == LAT_FLOAT32) {
    __builtin_memcpy(to, static_cast<const float*>(rows) + offset, static_cast<size_t>(count) * 4);
  } else {
    const uint16_t* from = static_cast<const uint16_t*>(rows) + offset;
    if (dtype == LAT_FLOAT16) {
      for (int64_t i = load_float16(from, count, to); i < count; ++i) to[i] = from_float16(from[i]);
    } else {
      for (int64_t i = 0; i < count; ++i) to[i] = from_bfloat16(from[i]);
    }
  }
  for (int64_t i = count; i < padded; ++i) to[i] = 0.0f;
}

inline int64_t bytes_of(lat_dtype dtype) { return dtype == LAT_FLOAT32 ? 4 : 2; }

// Asks for a row that is soon loaded: rows of one head lie further apart than the processor's own prefetcher follows.
inline void fetch_row(lat_dtype dtype, const void* rows, int64_t offset, int64_t count) {
  const char* from = static_cast<const char*>(rows) + offset * bytes_of(dtype);
  for (int64_t i = 0; i < count * bytes_of(dtype); i += 64) __builtin_prefetch(from + i);
}

inline constexpr int64_t kRowsAhead = 8;

// `rows_count` rows, `stride` elements apart, to rows of `padded` floats.
inline void load_rows(lat_dtype dtype, const void* rows, int64_t offset, int64_t stride, int64_t rows_count,
                      int64_t count, float* to, int64_t padded) {
  for (int64_t i = 0; i < rows_count; ++i) {
    if (i + kRowsAhead < rows_count) fetch_row(dtype, rows, offset + (i + kRowsAhead) * stride, count);
    load_row(dtype, rows, offset + i * stride, count, to + i * padded, padded);
  }
}

inline void store_row(lat_dtype dtype, void* rows, int64_t offset, int64_t count, const float* from) {
  if (dtype == LAT_FLOAT32) {
    __builtin_memcpy(static_cast<float*>(rows) + offset, from, static_cast<size_t>(count) * 4);
    return;
  }
  uint16_t* to = static_cast<uint16_t*>(rows) + offset;
  if (dtype == LAT_FLOAT16) {
    for (int64_t i = store_float16(from, count, to); i < count; ++i) to[i] = to_float16(from[i]);
  } else {
    for (int64_t i = 0; i < count; ++i) to[i] = to_bfloat16(from[i]);
  }
}

inline void store_zeros(lat_dtype dtype, void* rows, int64_t offset, int64_t count) {
  const int64_t bytes = bytes_of(dtype);
  __builtin_memset(static_cast<char*>(rows) + offset * bytes, 0, static_cast<size_t>(count * bytes));
}

// The numbers `first` to `first + size` of every row of one row of a batch: those of a head, say.
class Rows {
 public:
  Rows(int32_t dtype, const lat_rows& rows, int64_t batch, int64_t first, int64_t size)
      : dtype_(static_cast<lat_dtype>(dtype)),
        data_(rows.data),
        start_(batch * rows.batch_stride + first),
        stride_(rows.row_stride),
        size_(size) {}

  // Then zeros up to `padded`.
  void read(int64_t token, float* to, int64_t padded) const {
    load_row(dtype_, data_, start_ + token * stride_, size_, to, padded);
  }
  void read(int64_t token, int64_t count, float* to, int64_t padded) const {
    load_rows(dtype_, data_, start_ + token * stride_, stride_, count, size_, to, padded);
  }
  void prefetch(int64_t token) const { fetch_row(dtype_, data_, start_ + token * stride_, size_); }
  void write(int64_t token, const float* from) const {
    store_row(dtype_, data_, start_ + token * stride_, size_, from);
  }
  void write_zeros(int64_t token) const { store_zeros(dtype_, data_, start_ + token * stride_, size_); }

 private:
  lat_dtype dtype_;
  void* data_;
  int64_t start_, stride_, size_;
};

}  // namespace lat::LAT_ARCH
