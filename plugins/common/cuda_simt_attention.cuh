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
#include "common/cuda_simt_products.cuh"

namespace lat {

template <int kHeadSize>
struct SimtAttentionShape {
  static constexpr int kThreads = 128, kRows = 64;
  static constexpr int kLanes = 8, kRowGroups = kThreads / kLanes, kOwnRows = kRows / kRowGroups;
  static constexpr int kStride = kSimtStride<kHeadSize>, kWeightStride = kSimtStride<kTileKeys>;
  static constexpr int kSharedBytes = (2 * kTileKeys * kStride + kRows * kWeightStride) * 4;
};

template <int kHeadSize>
class SimtAttentionLayout {
 public:
  using Shape = SimtAttentionShape<kHeadSize>;
  static constexpr int kLanes = Shape::kLanes, kOwnRows = Shape::kOwnRows;
  // Columns: runs of kRun, kLanes of them side by side.
  static constexpr int kRun = kHeadSize / kLanes < 4 ? kHeadSize / kLanes : 4;
  static constexpr int kColumns = kHeadSize / kLanes;

  __device__ __forceinline__ SimtAttentionLayout()
      : lane_(static_cast<int>(threadIdx.x) % kLanes), group_(static_cast<int>(threadIdx.x) / kLanes) {}

  __device__ __forceinline__ int lane() const { return lane_; }
  __device__ __forceinline__ int row(int own) const { return group_ + own * Shape::kRowGroups; }
  __device__ __forceinline__ int column(int own) const { return (own / kRun * kLanes + lane_) * kRun + own % kRun; }

 private:
  int lane_, group_;
};

template <class Element, int kHeadSize, class Weighting>
class SimtRows {
 public:
  using Task = typename Weighting::Task;
  using Layout = SimtAttentionLayout<kHeadSize>;

  template <RowsOf kRowsOf>
  __device__ __forceinline__ void start(const Task& task, int32_t batch) {
    weights_.template start<kRowsOf>(task, batch);
  }

  __device__ __forceinline__ int row(int own) const { return products_.layout().row(own); }

  // Weights of this tile's keys, to shared memory; `seen(row)` gives the keys that a row sees, as bits.
  template <class Seen>
  __device__ __forceinline__ void weigh(const float* queries, const float* keys, float* weights, const Task& task,
                                        Seen seen) {
    float score[Products::kOwnRows][Products::kOwnKeys];
    products_.multiply_keys(score, queries, keys);
#pragma unroll
    for (int i = 0; i < Products::kOwnRows; ++i) {
      if (Weighting::kHidesKeys) hide_simt_keys<Layout::kLanes>(score[i], seen(row(i)), products_.layout().lane());
      weights_.weigh(score[i], products_.context()[i], i, task);
      products_.store_weights(weights, score[i], i);
    }
  }

  __device__ __forceinline__ void add_values(const float* weights, const float* values) {
    products_.add_values(weights, values);
  }

  // One row: `to` is where its first column is written, zeros unless it attends.
  __device__ __forceinline__ void write(Element* to, int own, bool attends) {
#pragma unroll
    for (int i = 0; i < Products::kOwnRows; ++i) {
      if (i != own) continue;
      const float factor = attends ? factor_[i] : 0.0f;
#pragma unroll
      for (int at = 0; at < Layout::kColumns; ++at)
        to[products_.layout().column(at)] =
            from_float<Element>(factor == 0.0f ? 0.0f : products_.context()[i][at] * factor);
    }
  }

  // All lanes must take part.
  __device__ __forceinline__ void finish(const Task& task) {
#pragma unroll
    for (int i = 0; i < Products::kOwnRows; ++i) factor_[i] = weights_.factor(products_.context()[i], i, task);
  }

 private:
  using Products = SimtProducts<kHeadSize, Layout>;
  Products products_;
  typename Weighting::template SimtWeights<Layout::kOwnRows, Layout::kLanes> weights_;
  float factor_[Layout::kOwnRows] = {};
};

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
      load_simt_rows<kHeadSize, Shape::kThreads, kUnitRows>(
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
        load_simt_rows<kHeadSize, Shape::kThreads, kUnitRows>(keys, key, task.key.row_stride, token, key_factors);
        __syncthreads();
        rows.weigh(queries, keys, weights, task, [&](int row) {
          return kRowsOf != RowsOf::sequence ? tile.keys : keys_seen(tile, first + row, task.window);
        });
        __syncthreads();
        load_simt_rows<kHeadSize, Shape::kThreads>(keys, value, task.value.row_stride, token);
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
