// The collision rate of two codes of T bits as the weighting of attention in one pass: (1 - acos(s) / pi)^T with s the
// cosine of the two rows, and an output row that is divided by its L2 norm. No largest score has to be known, so
// weights are made 16 keys at a time. A key that a row does not see needs no care: its values are zeros, and its weight
// is finite, whatever its factor.
//
// Cosines are products of the rows as they are stored times one over either norm, in float32: unit rows rounded to 16
// bits would move a cosine by 1e-3, and acos is steepest where cosines are largest.
#pragma once

#include <cmath>
#include <cstring>

#include "common/collision_rate.h"
#include "common/cuda_attention.cuh"
#include "common/cuda_instructions.cuh"
#include "common/mma_layout.h"
#include "common/smallest_norm.h"

namespace lat {

struct CollisionTask : AttentionRows {
  // [B, H, 64 * tiles]: one over the norm of a row; 0 for rows that are no key.
  const float *query_factors, *key_factors;
  int32_t exponent, next_bit;  // T, and the bit of it below the leading one
  // On the matrix units, where weights are rounded to 16 bits: the T-th root of a power of 2 that float16 holds, half
  // of it, and the terms of the short series times it. So no weight that counts is below the smallest of float16.
  float half, term[kShortCollisionSeries];
  float smallest_norm;  // of a sum of weighted values

  void set_exponent(int64_t bits, bool is_half);

  __device__ __forceinline__ int64_t first_factor(int32_t batch, int32_t head) const {
    return (int64_t{batch} * num_heads + head) * kTileKeys * tiles_of(tokens);
  }
};

// Up to this T the short series' error stays below what rounding weights to float16 costs, and float16 has room for
// the weights of rows that are no further apart than 120 degrees.
constexpr int64_t kMostBitsOf16 = 16;

inline void CollisionTask::set_exponent(int64_t bits, bool is_half) {
  exponent = static_cast<int32_t>(bits);
  next_bit = 1;
  while (next_bit <= exponent / 2) next_bit *= 2;
  next_bit /= 2;
  const double root = is_half ? std::exp2(15.0 / static_cast<double>(bits)) : 1.0;
  const ShortCollisionSeries series = short_collision_series();
  for (int at = 0; at < kShortCollisionSeries; ++at) term[at] = static_cast<float>(root * double{series.term[at]});
  half = static_cast<float>(0.5 * root);
  smallest_norm = kSmallestNorm * (is_half ? 32768.0f : 1.0f);
}

struct CollisionRate {
  using Task = CollisionTask;

  static bool on_matrix_units(const Task& task) { return task.exponent <= kMostBitsOf16; }

  static constexpr bool kHidesKeys = false;
  static constexpr bool kUnitRows = true;
  static constexpr int kMmaSteps = 1;
  static constexpr bool kKeepsPlaces = true;
  // Three blocks fit with 168 registers a thread, on sm_90 and sm_100: elsewhere some would be spilled, or there is
  // shared memory for two only, as there is for heads of 128.
  static constexpr int mma_blocks(int head_size) {
#if defined(__CUDA_ARCH__) && (__CUDA_ARCH__ < 900 || __CUDA_ARCH__ >= 1200)
    return head_size >= 64 ? 2 : 3;
#else
    return head_size == 128 ? 2 : 3;
#endif
  }

  // Rates become weights. The 9 bits that YOSO has by default need no loop.
  template <int kCount>
  static __device__ __forceinline__ void raise(float (&rate)[kCount], const Task& task) {
    if (task.exponent == 9) {
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        float power = rate[i] * rate[i];
        power *= power;
        power *= power;
        rate[i] *= power;
      }
      return;
    }
    float base[kCount];
#pragma unroll
    for (int i = 0; i < kCount; ++i) base[i] = rate[i];
#pragma unroll 1
    for (int32_t bit = task.next_bit; bit != 0; bit >>= 1) {
#pragma unroll
      for (int i = 0; i < kCount; ++i) rate[i] *= rate[i];
      if ((task.exponent & bit) == 0) continue;
#pragma unroll
      for (int i = 0; i < kCount; ++i) rate[i] *= base[i];
    }
  }

  template <int kRowTiles>
  class MmaWeights {
   public:
    template <RowsOf kRowsOf>
    __device__ __forceinline__ void start(const Task& task, int32_t batch, int32_t head, int32_t first, int32_t rows) {
      const float* const factors = task.query_factors + task.first_factor(batch, head);
      column_ = sum_column(lane_of_warp(), 0);
#pragma unroll
      for (int tile = 0; tile < kRowTiles; ++tile)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int32_t row = first + 16 * tile + sum_row(lane_of_warp(), 2 * half);
          factor_[tile][half] = row < rows ? factors[row] : 0.0f;
        }
    }

    // `key_factors` are those of the keys of the scores, in shared memory.
    template <int kColumns, int kValueColumns, class Done>
    __device__ __forceinline__ void weigh(float (&score)[kRowTiles][kColumns][4],
                                          float (&)[kRowTiles][kValueColumns][4], const Task& task,
                                          const float* key_factors, Done done) {
      float rate[4 * kColumns * kRowTiles];
      key_factors += column_;
#pragma unroll
      for (int column = 0; column < kColumns; ++column) {
        const float2 key = *reinterpret_cast<const float2*>(key_factors + 8 * column);
#pragma unroll
        for (int tile = 0; tile < kRowTiles; ++tile)
#pragma unroll
          for (int i = 0; i < 4; ++i)
            rate[4 * (kColumns * tile + column) + i] =
                rate_of(score[tile][column][i], i % 2 == 0 ? key.x : key.y, factor_[tile][i / 2], task);
      }
      raise(rate, task);
#pragma unroll
      for (int tile = 0; tile < kRowTiles; ++tile) {
#pragma unroll
        for (int column = 0; column < kColumns; ++column)
#pragma unroll
          for (int i = 0; i < 4; ++i) score[tile][column][i] = rate[4 * (kColumns * tile + column) + i];
        done(tile);
      }
    }

    template <int kValueColumns>
    __device__ __forceinline__ float factor(const float (&context)[kValueColumns][4], int, int half,
                                            const Task& task) const {
      float squares = 0.0f;
#pragma unroll
      for (int column = 0; column < kValueColumns; ++column)
#pragma unroll
        for (int i = 2 * half; i < 2 * half + 2; ++i) squares = fmaf(context[column][i], context[column][i], squares);
      squares += __shfl_xor_sync(0xffffffff, squares, 1);
      squares += __shfl_xor_sync(0xffffffff, squares, 2);
      return __fdividef(1.0f, fmaxf(sqrt_fast(squares), task.smallest_norm));
    }

   private:
    static __device__ __forceinline__ float rate_of(float product, float key_factor, float query_factor,
                                                    const Task& task) {
      // 1 - |s|, and 0 where rounding makes |s| larger than 1.
      const float rest = saturated_multiply_add(-fabsf(product) * key_factor, query_factor, 1.0f);
      float series = task.term[kShortCollisionSeries - 1];
#pragma unroll
      for (int at = kShortCollisionSeries - 2; at >= 0; --at) series = fmaf(series, rest, task.term[at]);
      // The rate for s is as much above a half as that for -s is below.
      const float above = fmaf(-sqrt_fast(rest), series, task.half);
      uint32_t bits, sign;
      memcpy(&bits, &above, sizeof bits);
      memcpy(&sign, &product, sizeof sign);
      bits ^= sign & 0x80000000u;
      float turned;
      memcpy(&turned, &bits, sizeof turned);
      return task.half + turned;
    }

    int column_;  // of 8 keys, the first of this lane
    float factor_[kRowTiles][2];
  };

  // Of rows that were multiplied with their factors before: scores are cosines.
  template <int kOwnRows, int kLanes>
  class SimtWeights {
   public:
    template <RowsOf kRowsOf>
    __device__ __forceinline__ void start(const Task&, int32_t) {}

    template <int kOwnKeys, int kOwnColumns>
    __device__ __forceinline__ void weigh(float (&score)[kOwnKeys], float (&)[kOwnColumns], int, const Task& task) {
#pragma unroll
      for (int j = 0; j < kOwnKeys; ++j) {
        const float size = fabsf(score[j]), angle = sqrt_fast(fmaxf(1.0f - size, 0.0f)) * collision_series(size);
        score[j] = score[j] < 0.0f ? angle : 1.0f - angle;
      }
      raise(score, task);
    }

    // All lanes must ask.
    template <int kOwnColumns>
    __device__ __forceinline__ float factor(const float (&context)[kOwnColumns], int, const Task&) const {
      float squares = 0.0f;
#pragma unroll
      for (int column = 0; column < kOwnColumns; ++column) squares = fmaf(context[column], context[column], squares);
#pragma unroll
      for (int step = 1; step < kLanes; step *= 2) squares += __shfl_xor_sync(0xffffffff, squares, step);
      return 1.0f / fmaxf(sqrtf(squares), kSmallestNorm);
    }
  };
};

}  // namespace lat
