// Attention in one pass without matrix units: float32, and 16-bit elements whose rows do not lie on 16 bytes. Every
// product is a fused multiply-add in float32. Splitting float32 into three products of TF32 would be faster, but keeps
// 22 of 24 bits and sums in the matrix units, which cut where float32 rounds: its error is above float32's own.
//
// A block of threads holds 64 rows of one head and walks tiles of 64 keys (tile_walk.h). A thread owns rows ty, ty +
// 16, ty + 32 and ty + 48, with ty = thread / 8: of the scores, keys tx, tx + 8, ...; of the context, a run of columns.
// So all of a row lies in 8 neighbouring lanes.
#pragma once

#include "common/cuda_attention.cuh"
#include "common/cuda_launch.cuh"

namespace lat {

template <int kHeadSize>
struct SimtAttentionShape {
  static constexpr int kThreads = 128, kRows = 64;
  static constexpr int kLanes = 8, kRowGroups = kThreads / kLanes, kOwnRows = kRows / kRowGroups;
  static constexpr int kOwnKeys = kTileKeys / kLanes;
  // Columns of the context: runs of kRun, kLanes of them side by side.
  static constexpr int kRun = kHeadSize / kLanes < 4 ? kHeadSize / kLanes : 4;
  static constexpr int kRuns = kHeadSize / (kLanes * kRun);
  // 16 bytes more, so that rows begin in different banks.
  static constexpr int kStride = kHeadSize + 4, kWeightStride = kTileKeys + 4;
  static constexpr int kSharedBytes = (2 * kTileKeys * kStride + kRows * kWeightStride) * 4;
};

template <class Element, int kHeadSize, class Weighting>
class SimtRows {
 public:
  using Shape = SimtAttentionShape<kHeadSize>;
  using Task = typename Weighting::Task;

  __device__ __forceinline__ SimtRows()
      : lane_(static_cast<int>(threadIdx.x) % Shape::kLanes), group_(static_cast<int>(threadIdx.x) / Shape::kLanes) {
#pragma unroll
    for (int row = 0; row < Shape::kOwnRows; ++row)
#pragma unroll
      for (int column = 0; column < Shape::kRuns * Shape::kRun; ++column) context_[row][column] = 0.0f;
  }

  template <RowsOf kRowsOf>
  __device__ __forceinline__ void start(const Task& task, int32_t batch) {
    weights_.template start<kRowsOf>(task, batch);
  }

  __device__ __forceinline__ int row(int own) const { return group_ + own * Shape::kRowGroups; }

  // Weights of this tile's keys, to shared memory; `seen(row)` gives the keys that a row sees, as bits.
  template <class Seen>
  __device__ __forceinline__ void weigh(const float* queries, const float* keys, float* weights, const Task& task,
                                        Seen seen) {
    float score[Shape::kOwnRows][Shape::kOwnKeys] = {};
#pragma unroll 4
    for (int at = 0; at < kHeadSize; at += 4) {
      float4 query[Shape::kOwnRows], key[Shape::kOwnKeys];
#pragma unroll
      for (int i = 0; i < Shape::kOwnRows; ++i)
        query[i] = *reinterpret_cast<const float4*>(queries + row(i) * Shape::kStride + at);
#pragma unroll
      for (int j = 0; j < Shape::kOwnKeys; ++j)
        key[j] = *reinterpret_cast<const float4*>(keys + (lane_ + j * Shape::kLanes) * Shape::kStride + at);
#pragma unroll
      for (int i = 0; i < Shape::kOwnRows; ++i)
#pragma unroll
        for (int j = 0; j < Shape::kOwnKeys; ++j) {
          score[i][j] = fmaf(query[i].x, key[j].x, score[i][j]);
          score[i][j] = fmaf(query[i].y, key[j].y, score[i][j]);
          score[i][j] = fmaf(query[i].z, key[j].z, score[i][j]);
          score[i][j] = fmaf(query[i].w, key[j].w, score[i][j]);
        }
    }
#pragma unroll
    for (int i = 0; i < Shape::kOwnRows; ++i) {
      if (Weighting::kHidesKeys) {
        const uint64_t keys_of_lane = seen(row(i)) >> lane_;
#pragma unroll
        for (int j = 0; j < Shape::kOwnKeys; ++j)
          if ((keys_of_lane >> (j * Shape::kLanes) & 1) == 0) score[i][j] = -INFINITY;
      }
      weights_.weigh(score[i], context_[i], i, task);
#pragma unroll
      for (int j = 0; j < Shape::kOwnKeys; ++j)
        weights[row(i) * Shape::kWeightStride + lane_ + j * Shape::kLanes] = score[i][j];
    }
  }

  __device__ __forceinline__ void add_values(const float* weights, const float* values) {
#pragma unroll 2
    for (int key = 0; key < kTileKeys; key += 4) {
      float weight[Shape::kOwnRows][4];
#pragma unroll
      for (int i = 0; i < Shape::kOwnRows; ++i)
        *reinterpret_cast<float4*>(weight[i]) =
            *reinterpret_cast<const float4*>(weights + row(i) * Shape::kWeightStride + key);
#pragma unroll
      for (int k = 0; k < 4; ++k)
#pragma unroll
        for (int run = 0; run < Shape::kRuns; ++run)
#pragma unroll
          for (int c = 0; c < Shape::kRun; ++c) {
            const float value = values[(key + k) * Shape::kStride + column(run) + c];
#pragma unroll
            for (int i = 0; i < Shape::kOwnRows; ++i)
              context_[i][run * Shape::kRun + c] = fmaf(weight[i][k], value, context_[i][run * Shape::kRun + c]);
          }
    }
  }

  // One row: `to` is where its first column is written, zeros unless it attends.
  __device__ __forceinline__ void write(Element* to, int own, bool attends) const {
#pragma unroll
    for (int i = 0; i < Shape::kOwnRows; ++i) {
      if (i != own) continue;
      const float factor = attends ? factor_[i] : 0.0f;
#pragma unroll
      for (int run = 0; run < Shape::kRuns; ++run)
#pragma unroll
        for (int c = 0; c < Shape::kRun; ++c)
          to[column(run) + c] =
              from_float<Element>(factor == 0.0f ? 0.0f : context_[i][run * Shape::kRun + c] * factor);
    }
  }

  // All lanes must take part.
  __device__ __forceinline__ void finish(const Task& task) {
#pragma unroll
    for (int i = 0; i < Shape::kOwnRows; ++i) factor_[i] = weights_.factor(context_[i], i, task);
  }

 private:
  __device__ __forceinline__ int column(int run) const { return (run * Shape::kLanes + lane_) * Shape::kRun; }

  int lane_, group_;
  typename Weighting::template SimtWeights<Shape::kOwnRows, Shape::kLanes> weights_;
  float factor_[Shape::kOwnRows] = {};
  float context_[Shape::kOwnRows][Shape::kRuns * Shape::kRun];
};

// 64 rows of a head to shared memory as float32; `token(row)` says which, below 0 is a row of zeros. Where there are
// `factors`, each row is multiplied with that of its token.
template <class Element, int kHeadSize, bool kFactors = false, class Token>
__device__ __forceinline__ void load_simt_rows(float* to, const Element* from, int64_t stride, Token token,
                                               const float* factors = nullptr) {
  using Shape = SimtAttentionShape<kHeadSize>;
#pragma unroll 8
  for (int at = static_cast<int>(threadIdx.x); at < kTileKeys * kHeadSize; at += Shape::kThreads) {
    const int row = at / kHeadSize, column = at % kHeadSize;
    const int64_t source = token(row);
    float number = source < 0 ? 0.0f : to_float(from[source * stride + column]);
    if (kFactors && source >= 0) number *= factors[source];
    to[row * Shape::kStride + column] = number;
  }
}

template <class Element, int kHeadSize, RowsOf kRowsOf, class Weighting>
__global__ void __launch_bounds__(SimtAttentionShape<kHeadSize>::kThreads, 2)
    simt_attention(const __grid_constant__ typename Weighting::Task task) {
  using Shape = SimtAttentionShape<kHeadSize>;
  LAT_SHARED_MEMORY(shared);
  float* const queries = reinterpret_cast<float*>(shared);
  float* const keys = queries + Shape::kRows * Shape::kStride;  // then the values
  float* const weights = keys + kTileKeys * Shape::kStride;

  const AttentionBlock<kRowsOf> block(task);
  const int32_t words = static_cast<int32_t>(tiles_of(task.tokens));
  const uint64_t* const key_bits = task.list.key_bits + int64_t{block.batch} * words;
  const int32_t* const positions =
      kRowsOf == RowsOf::dense ? nullptr : task.list.positions + int64_t{block.batch} * task.tokens;
  const int64_t column = int64_t{block.head} * kHeadSize;
  const Element* const key = row_of<const Element>(task.key, block.batch, 0, column);
  const Element* const value = row_of<const Element>(task.value, block.batch, 0, column);
  constexpr bool kUnitRows = Weighting::kUnitRows;
  const float *query_factors = nullptr, *key_factors = nullptr;
  if constexpr (kUnitRows) {
    query_factors = task.query_factors + task.first_factor(block.batch, block.head);
    key_factors = task.key_factors + task.first_factor(block.batch, block.head);
  }

  for (int32_t at = block.first; int64_t{Shape::kRows} * at < block.rows; at += block.step) {
    const int32_t first = Shape::kRows * at;
    const uint64_t attend = rows_that_attend<kRowsOf>(task, key_bits, first, block.rows, Shape::kRows);
    SimtRows<Element, kHeadSize, Weighting> rows;
    if (attend != 0) {
      load_simt_rows<Element, kHeadSize, kUnitRows>(
          queries, row_of<const Element>(task.query, block.batch, 0, column), task.query.row_stride,
          [&](int row) { return first + row < block.rows ? int64_t{first + row} : int64_t{-1}; }, query_factors);
      rows.template start<kRowsOf>(task, block.batch);
      TileWalk<WordsOfWarp> walk = walk_of<kRowsOf>(WordsOfWarp(key_bits, words), task, first, Shape::kRows, block);
      for (Tile tile = walk.next(); tile.keys != 0; tile = walk.next()) {
        const auto token = [&](int row) -> int64_t {
          if ((tile.keys >> row & 1) == 0) return -1;
          const int32_t place = kTileKeys * tile.index + row;
          return tile.listed ? positions[place] : place;
        };
        load_simt_rows<Element, kHeadSize, kUnitRows>(keys, key, task.key.row_stride, token, key_factors);
        __syncthreads();
        rows.weigh(queries, keys, weights, task, [&](int row) {
          return kRowsOf != RowsOf::sequence ? tile.keys : keys_seen(tile, first + row, task.window);
        });
        __syncthreads();
        load_simt_rows<Element, kHeadSize>(keys, value, task.value.row_stride, token);
        __syncthreads();
        rows.add_values(weights, keys);
        __syncthreads();
      }
      rows.finish(task);
    }
#pragma unroll
    for (int own = 0; own < Shape::kOwnRows; ++own) {
      const int32_t row = first + rows.row(own);
      if (row >= block.rows) continue;
      const int32_t to = kRowsOf == RowsOf::list ? positions[row] : row;
      rows.write(row_of<Element>(task.output, block.batch, to, column), own, (attend >> rows.row(own) & 1) != 0);
    }
    if (kRowsOf != RowsOf::list) break;  // a block of threads for each block of rows
  }
}

}  // namespace lat
