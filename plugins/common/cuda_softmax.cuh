// Softmax as the weighting of attention in one pass: weights are set against the largest score of their row so far,
// and what is already summed is set against a larger one when it comes.
#pragma once

#include "common/cuda_attention.cuh"
#include "common/cuda_instructions.cuh"

namespace lat {

struct Softmax {
  using Task = AttentionTask;

  static bool on_matrix_units(const Task&) { return true; }

  // Scores of keys that a row does not see become -inf.
  static constexpr bool kHidesKeys = true;
  // Queries and keys are taken as they are.
  static constexpr bool kUnitRows = false;
  // Steps of 16 keys that are weighted at once: a tile. Each time is a search for the largest score.
  static constexpr int kMmaSteps = kTileKeys / 16;
  // Where a lane reads is worked out anew for each tile: kept, it would take registers from the sums.
  static constexpr bool kKeepsPlaces = false;
  // Blocks of threads that a multiprocessor is to hold.
  static constexpr int mma_blocks(int) { return 2; }

  // The smallest number above 0 makes all scores alike, and leaves -inf what it is; 0 would not.
  template <RowsOf kRowsOf>
  static __device__ __forceinline__ float scale(const Task& task, int32_t batch) {
    return kRowsOf == RowsOf::dense && task.any_token[batch] == 0 ? 0x1p-149f : task.scale_log2;
  }

  // Of rows whose sums lie in the registers of a warp (mma_layout.h), in kRowTiles times 16 rows.
  template <int kRowTiles>
  class MmaWeights {
   public:
    template <RowsOf kRowsOf>
    __device__ __forceinline__ void start(const Task& task, int32_t batch, int32_t, int32_t, int32_t) {
      scale_log2_ = scale<kRowsOf>(task, batch);
#pragma unroll
      for (int tile = 0; tile < kRowTiles; ++tile)
#pragma unroll
        for (int half = 0; half < 2; ++half) largest_[tile][half] = -INFINITY, total_[tile][half] = 0.0f;
    }

    // Scores become weights, and what is already summed is set against the new largest score; `done(tile)` after each
    // 16 rows.
    template <int kColumns, int kValueColumns, class Done>
    __device__ __forceinline__ void weigh(float (&score)[kRowTiles][kColumns][4],
                                          float (&context)[kRowTiles][kValueColumns][4], const Task&, const float*,
                                          Done done) {
#pragma unroll
      for (int tile = 0; tile < kRowTiles; ++tile) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          float largest = largest_[tile][half];
#pragma unroll
          for (int column = 0; column < kColumns; ++column)
            largest = fmaxf(largest, fmaxf(score[tile][column][2 * half], score[tile][column][2 * half + 1]));
          largest = fmaxf(largest, __shfl_xor_sync(0xffffffff, largest, 1));
          largest = fmaxf(largest, __shfl_xor_sync(0xffffffff, largest, 2));
          // Of a row that has seen no key yet every weight is exp2(-inf - 0) = 0.
          const float against = largest == -INFINITY ? 0.0f : largest * scale_log2_;
          const float before = exp2_fast(fmaf(largest_[tile][half], scale_log2_, -against));
          largest_[tile][half] = largest;
          float total = 0.0f;
#pragma unroll
          for (int column = 0; column < kColumns; ++column)
#pragma unroll
            for (int i = 2 * half; i < 2 * half + 2; ++i) {
              score[tile][column][i] = exp2_fast(fmaf(score[tile][column][i], scale_log2_, -against));
              total += score[tile][column][i];
            }
          total_[tile][half] = fmaf(total_[tile][half], before, total);
#pragma unroll
          for (int column = 0; column < kValueColumns; ++column)
#pragma unroll
            for (int i = 2 * half; i < 2 * half + 2; ++i) context[tile][column][i] *= before;
        }
        done(tile);
      }
    }

    // What a row's sum is to be multiplied with; 0 where it has seen no key.
    template <int kValueColumns>
    __device__ __forceinline__ float factor(const float (&)[kValueColumns][4], int tile, int half, const Task&) const {
      float total = total_[tile][half];
      total += __shfl_xor_sync(0xffffffff, total, 1);
      total += __shfl_xor_sync(0xffffffff, total, 2);
      return total > 0.0f ? __fdividef(1.0f, total) : 0.0f;
    }

   private:
    float scale_log2_;
    float largest_[kRowTiles][2], total_[kRowTiles][2];  // totals are of this lane's keys
  };

  // Of kOwnRows rows that lie in kLanes neighbouring lanes each.
  template <int kOwnRows, int kLanes>
  class SimtWeights {
   public:
    template <RowsOf kRowsOf>
    __device__ __forceinline__ void start(const Task& task, int32_t batch) {
      scale_log2_ = scale<kRowsOf>(task, batch);
#pragma unroll
      for (int row = 0; row < kOwnRows; ++row) largest_[row] = -INFINITY, total_[row] = 0.0f;
    }

    // Of one row: scores become weights.
    template <int kOwnKeys, int kOwnColumns>
    __device__ __forceinline__ void weigh(float (&score)[kOwnKeys], float (&context)[kOwnColumns], int row,
                                          const Task&) {
      float largest = largest_[row];
#pragma unroll
      for (int j = 0; j < kOwnKeys; ++j) largest = fmaxf(largest, score[j]);
#pragma unroll
      for (int step = 1; step < kLanes; step *= 2) largest = fmaxf(largest, __shfl_xor_sync(0xffffffff, largest, step));
      // Of a row that has seen no key yet every weight is exp2(-inf - 0) = 0. The difference comes first: scaled
      // apart, two large scores would lose what they differ in.
      const float against = largest == -INFINITY ? 0.0f : largest;
      const float before = exp2f((largest_[row] - against) * scale_log2_);
      largest_[row] = largest;
      total_[row] *= before;
#pragma unroll
      for (int j = 0; j < kOwnKeys; ++j) {
        score[j] = exp2f((score[j] - against) * scale_log2_);
        total_[row] += score[j];
      }
#pragma unroll
      for (int column = 0; column < kOwnColumns; ++column) context[column] *= before;
    }

    // What a row's sum is to be multiplied with; 0 where it has seen no key. All lanes must ask.
    template <int kOwnColumns>
    __device__ __forceinline__ float factor(const float (&)[kOwnColumns], int row, const Task&) const {
      float total = total_[row];
#pragma unroll
      for (int step = 1; step < kLanes; step *= 2) total += __shfl_xor_sync(0xffffffff, total, step);
      return total > 0.0f ? 1.0f / total : 0.0f;
    }

   private:
    float scale_log2_;
    float largest_[kOwnRows], total_[kOwnRows];  // totals are of this lane's keys
  };
};

}  // namespace lat
