// Attention in one pass on the matrix units, for 16-bit elements whose rows lie on 16 bytes. FlashAttention-2's scheme:
// a block of threads holds 64 or 128 rows of one head and walks tiles of 64 keys (tile_walk.h), which it weighs in
// float32; the next tile's copy runs under the work on this one. A warp owns 16 or 32 rows and skips what lies outside
// of their band. Keys and values of no key are never read; they are zeros in shared memory.
#pragma once

#include "common/cuda_async_copy.cuh"
#include "common/cuda_attention.cuh"
#include "common/cuda_instructions.cuh"
#include "common/cuda_launch.cuh"
#include "common/mma_layout.h"

namespace lat {

// 32 rows a warp read each key from shared memory half as often as 16 would; with D = 128 they do not fit registers,
// and a list of rows is short: smaller blocks of them are more.
template <int kHeadSize, RowsOf kRowsOf>
constexpr int kMostRowTiles = kHeadSize == 128 || kRowsOf == RowsOf::list ? 1 : 2;

template <int kHeadSize, int kRowTiles, class Weighting>
struct MmaAttentionShape {
  static constexpr int kWarps = 4, kThreads = 32 * kWarps;
  static constexpr int kRowsOfWarp = 16 * kRowTiles, kRows = kWarps * kRowsOfWarp;
  static constexpr int kSteps = kHeadSize / 16;        // of a score's sum
  static constexpr int kChunks = kHeadSize / 8;        // of 16 bytes in a row
  static constexpr int kValueColumns = kHeadSize / 8;  // of 8, as sums lie in registers
  static constexpr uint32_t kRowBytes = 2 * kHeadSize, kTileBytes = kTileKeys * kRowBytes;
  // Factors of a tile's keys lie behind all tiles.
  static constexpr uint32_t kFactorsAt = kRows * kRowBytes + 4 * kTileBytes;
  static constexpr uint32_t kFactorBytes = Weighting::kUnitRows ? 4 * kTileKeys : 0;
  static constexpr int kSharedBytes = static_cast<int>(kFactorsAt + 2 * kFactorBytes);
};

// Of the rows of a warp, in the registers of its lanes.
template <class Element, int kHeadSize, int kRowTiles, class Weighting>
class MmaRows {
 public:
  using Shape = MmaAttentionShape<kHeadSize, kRowTiles, Weighting>;

  // Rows `first` and on of `block`.
  template <RowsOf kRowsOf>
  __device__ __forceinline__ void start(uint32_t queries, const typename Weighting::Task& task,
                                        const AttentionBlock<kRowsOf>& block, int32_t first) {
    if (Weighting::kKeepsPlaces) {
      key_place_ = place_of_lane(place_by_rows(lane_of_warp()));
      value_place_ = place_of_lane(place_by_columns(lane_of_warp()));
    }
    queries += place_of_lane(place_by_columns(lane_of_warp()));
#pragma unroll
    for (int tile = 0; tile < kRowTiles; ++tile) {
#pragma unroll
      for (int step = 0; step < Shape::kSteps; ++step) {
        load_matrices(query_[tile][step], pairs_further(queries, step) + tile * 16 * Shape::kRowBytes);
      }
#pragma unroll
      for (int column = 0; column < Shape::kValueColumns; ++column)
#pragma unroll
        for (int i = 0; i < 4; ++i) context_[tile][column][i] = 0.0f;
    }
    weights_.template start<kRowsOf>(task, block.batch, block.head, first, block.rows);
  }

  // 16 * kGroups keys of a tile. `seen(row)` gives those that row `row` of the warp sees, as bits; it is asked where
  // `some` rows do not see all, once for all rows where they see the `same`.
  template <int kGroups, class Seen>
  __device__ __forceinline__ void add(uint32_t keys, uint32_t values, const float* key_factors,
                                      const typename Weighting::Task& task, bool some, bool same, Seen seen) {
    float score[kRowTiles][2 * kGroups][4];
    multiply_keys<kGroups>(score, keys);
    if (Weighting::kHidesKeys && some) {
      if (same) {
        const uint64_t bits = seen(0);
#pragma unroll
        for (int row = 0; row < 2 * kRowTiles; ++row) hide<kGroups>(score[row / 2], row % 2, bits);
      } else {
#pragma unroll
        for (int row = 0; row < 2 * kRowTiles; ++row)
          hide<kGroups>(score[row / 2], row % 2, seen(16 * (row / 2) + sum_row(lane_of_warp(), 2 * (row % 2))));
      }
    }
    uint32_t weight[kRowTiles][kGroups][4];
    weights_.weigh(score, context_, task, key_factors, [&](int tile) {
    // Sums of 16 x 8 for keys 16 s and on, and 16 s + 8 and on, lie as a left operand of 16 x 16 must.
#pragma unroll
      for (int step = 0; step < kGroups; ++step)
#pragma unroll
        for (int i = 0; i < 4; ++i)
          weight[tile][step][i] =
              pack<Element>(score[tile][2 * step + i / 2][2 * (i % 2)], score[tile][2 * step + i / 2][2 * (i % 2) + 1]);
    });
    add_values<kGroups>(weight, values);
  }

  // Rows as they are stored, to the warp's part of shared memory; those of `attend` that are 0 become zeros.
  __device__ __forceinline__ void finish(unsigned char* rows, uint64_t attend, const typename Weighting::Task& task) {
    const int lane = lane_of_warp();
#pragma unroll
    for (int tile = 0; tile < kRowTiles; ++tile)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float factor = weights_.factor(context_[tile], tile, half, task);
        const int row = 16 * tile + sum_row(lane, 2 * half);
        const bool some = factor != 0.0f && (attend >> row & 1) != 0;
#pragma unroll
        for (int column = 0; column < Shape::kValueColumns; ++column) {
          const float* const sum = context_[tile][column] + 2 * half;
          *reinterpret_cast<uint32_t*>(rows + swizzled<kHeadSize>(row, column) + 2 * sum_column(lane, 0)) =
              some ? pack<Element>(sum[0] * factor, sum[1] * factor) : 0u;
        }
      }
  }

 private:
  static __device__ __forceinline__ uint32_t place_of_lane(Place place) {
    return swizzled<kHeadSize>(place.row, place.chunk);
  }

  template <int kGroups>
  __device__ __forceinline__ void multiply_keys(float (&score)[kRowTiles][2 * kGroups][4], uint32_t keys) const {
    keys += Weighting::kKeepsPlaces ? key_place_ : place_of_lane(place_by_rows(lane_of_warp()));
#pragma unroll
    for (int tile = 0; tile < kRowTiles; ++tile)
#pragma unroll
      for (int column = 0; column < 2 * kGroups; ++column)
#pragma unroll
        for (int i = 0; i < 4; ++i) score[tile][column][i] = 0.0f;
    constexpr int kPairs = kGroups;
    uint32_t key[2][4];  // the next ones are on their way while these are multiplied
    load_matrices(key[0], keys);
#pragma unroll
    for (int at = 0; at < Shape::kSteps * kPairs; ++at) {
      const int step = at / kPairs, pair = at % kPairs, next = at + 1;
      if (next < Shape::kSteps * kPairs)
        load_matrices(key[next % 2], pairs_further(keys, next / kPairs) + next % kPairs * 16 * Shape::kRowBytes);
#pragma unroll
      for (int tile = 0; tile < kRowTiles; ++tile) {
        multiply_add<Element>(score[tile][2 * pair], query_[tile][step], key[at % 2][0], key[at % 2][1]);
        multiply_add<Element>(score[tile][2 * pair + 1], query_[tile][step], key[at % 2][2], key[at % 2][3]);
      }
    }
  }

  template <int kGroups>
  __device__ __forceinline__ void hide(float (&score)[2 * kGroups][4], int half, uint64_t seen) const {
    seen >>= sum_column(lane_of_warp(), 0);
    const uint32_t low = static_cast<uint32_t>(seen), high = static_cast<uint32_t>(seen >> 32);
#pragma unroll
    for (int column = 0; column < 2 * kGroups; ++column)
#pragma unroll
      for (int i = 0; i < 2; ++i)
        if (((column < 4 ? low : high) & 1u << (column % 4 * 8 + i)) == 0) score[column][2 * half + i] = -INFINITY;
  }

  template <int kGroups>
  __device__ __forceinline__ void add_values(const uint32_t (&weight)[kRowTiles][kGroups][4], uint32_t values) {
    values += Weighting::kKeepsPlaces ? value_place_ : place_of_lane(place_by_columns(lane_of_warp()));
    constexpr int kPairs = Shape::kValueColumns / 2, kSteps = kGroups;
    uint32_t value[2][4];
    load_matrices_transposed(value[0], values);
#pragma unroll
    for (int at = 0; at < kSteps * kPairs; ++at) {
      const int step = at / kPairs, pair = at % kPairs, next = at + 1;
      if (next < kSteps * kPairs)
        load_matrices_transposed(value[next % 2],
                                 pairs_further(values, next % kPairs) + next / kPairs * 16 * Shape::kRowBytes);
#pragma unroll
      for (int tile = 0; tile < kRowTiles; ++tile) {
        multiply_add<Element>(context_[tile][2 * pair], weight[tile][step], value[at % 2][0], value[at % 2][1]);
        multiply_add<Element>(context_[tile][2 * pair + 1], weight[tile][step], value[at % 2][2], value[at % 2][3]);
      }
    }
  }

  uint32_t key_place_, value_place_;  // in shared memory, of a tile, where this lane begins to read
  uint32_t query_[kRowTiles][Shape::kSteps][4];
  float context_[kRowTiles][Shape::kValueColumns][4];
  typename Weighting::template MmaWeights<kRowTiles> weights_;
};

// The copies of a block of threads: thread t copies chunk t % kChunks of every kRowStep-th row.
template <class Element, int kHeadSize, class Shape>
class MmaCopies {
 public:
  static constexpr int kRowStep = Shape::kThreads / Shape::kChunks;
  static_assert(kRowStep % 8 == 0, "the swizzle must repeat");

  // Addresses are worked out anew for each tile: kept, they would take registers from the sums.
  __device__ __forceinline__ MmaCopies(int32_t batch, int32_t head) : batch_(batch), head_(head) {}

  // Rows `first` and on of the task's queries, zeros from row `rows` on.
  __device__ __forceinline__ void copy_queries(uint32_t to, const AttentionRows& task, int32_t first,
                                               int32_t rows) const {
    const int thread = thread_of_block(), chunk = thread % Shape::kChunks;
    int row = thread / Shape::kChunks;
    const Element* const from = row_of<const Element>(task.query, batch_, 0, int64_t{head_} * kHeadSize + chunk * 8);
    to += swizzled<kHeadSize>(row, chunk);
#pragma unroll 2
    for (; row < Shape::kRows; row += kRowStep, to += kRowStep * Shape::kRowBytes) {
      const bool there = first + row < rows;
      copy_or_zero(to, from + (there ? (first + row) * task.query.row_stride : 0), there);
    }
  }

  // Keys to `to`, values behind them. All threads of a warp must call it together.
  __device__ __forceinline__ void copy(uint32_t to, const AttentionRows& task, const Tile& tile) const {
    const int thread = thread_of_block(), lane = thread % 32, chunk = thread % Shape::kChunks;
    int row = thread / Shape::kChunks;
    int32_t low = kTileKeys * tile.index + lane, high = low + 32;  // the tokens of rows 0 to 31, and 32 to 63
    if (tile.listed) {
      const int32_t* const positions = task.list.positions + int64_t{batch_} * task.tokens + low;
      low = (tile.keys >> lane & 1) != 0 ? positions[0] : 0;
      high = (tile.keys >> (lane + 32) & 1) != 0 ? positions[32] : 0;
    }
    const Element* const key = row_of<const Element>(task.key, batch_, 0, int64_t{head_} * kHeadSize);
    const Element* const value = row_of<const Element>(task.value, batch_, 0, int64_t{head_} * kHeadSize);
    to += swizzled<kHeadSize>(row, chunk);
#pragma unroll 2
    for (; row < kTileKeys; row += kRowStep, to += kRowStep * Shape::kRowBytes) {
      // The rows of a warp, at most 16 side by side, lie in the same half.
      const int32_t token = __shfl_sync(0xffffffff, row < 32 ? low : high, row % 32);
      const bool there = (tile.keys >> row & 1) != 0;
      copy_or_zero(to, key + (there ? token * task.key.row_stride + chunk * 8 : 0), there);
      copy_or_zero(to + Shape::kTileBytes, value + (there ? token * task.value.row_stride + chunk * 8 : 0), there);
    }
  }

 private:
  int32_t batch_, head_;
};

// A warp's rows, 16 bytes a lane. Rows of the sequence that do not attend become zeros; shared memory is not read then.
template <class Element, int kHeadSize, RowsOf kRowsOf, class Shape>
__device__ __forceinline__ void write_rows(const AttentionRows& task, int32_t batch, int32_t head, int32_t first,
                                           int32_t rows, uint64_t attend, const unsigned char* from) {
  const int lane = lane_of_warp();
#pragma unroll
  for (int at = 0; at < Shape::kRowsOfWarp * Shape::kChunks; at += 32) {
    const int place = at + lane, row = place / Shape::kChunks, chunk = place % Shape::kChunks;
    if (first + row >= rows) continue;
    int32_t token = first + row;
    if (kRowsOf == RowsOf::list) token = task.list.positions[int64_t{batch} * task.tokens + token];
    uint4 numbers = make_uint4(0, 0, 0, 0);
    if ((attend >> row & 1) != 0) numbers = *reinterpret_cast<const uint4*>(from + swizzled<kHeadSize>(row, chunk));
    *reinterpret_cast<uint4*>(row_of<Element>(task.output, batch, token, int64_t{head} * kHeadSize + chunk * 8)) =
        numbers;
  }
}

// The factors of a tile's keys, 16 bytes a thread.
template <class Task>
__device__ __forceinline__ void copy_factors(uint32_t to, const Task& task, int32_t batch, int32_t head, int32_t tile) {
  const int thread = thread_of_block();
  if (thread >= kTileKeys / 4) return;
  copy_or_zero(to + 16 * thread, task.key_factors + task.first_factor(batch, head) + kTileKeys * tile + 4 * thread,
               true);
}

template <class Element, int kHeadSize, RowsOf kRowsOf, int kRowTiles, class Weighting>
__global__ void __launch_bounds__(MmaAttentionShape<kHeadSize, kRowTiles, Weighting>::kThreads,
                                  Weighting::mma_blocks(kHeadSize))
    mma_attention(const __grid_constant__ typename Weighting::Task task) {
  using Shape = MmaAttentionShape<kHeadSize, kRowTiles, Weighting>;
  LAT_SHARED_MEMORY(shared);
  const uint32_t queries = shared_address(shared);
  const uint32_t tiles = queries + Shape::kRows * Shape::kRowBytes;  // keys, values; keys, values

  const AttentionBlock<kRowsOf> block(task);
  const int32_t words = static_cast<int32_t>(tiles_of(task.tokens));
  const uint64_t* const key_bits = task.list.key_bits + int64_t{block.batch} * words;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const uint32_t own_rows = warp * Shape::kRowsOfWarp * Shape::kRowBytes;
  const MmaCopies<Element, kHeadSize, Shape> copies(block.batch, block.head);
  const auto copy = [&](const Tile& tile, int stage) {
    if (tile.keys == 0) return;
    copies.copy(tiles + stage * 2 * Shape::kTileBytes, task, tile);
    if constexpr (Weighting::kUnitRows)
      copy_factors(queries + Shape::kFactorsAt + stage * Shape::kFactorBytes, task, block.batch, block.head,
                   tile.index);
  };

  for (int32_t at = block.first; int64_t{Shape::kRows} * at < block.rows; at += block.step) {
    const int32_t first = Shape::kRows * at, own_first = first + warp * Shape::kRowsOfWarp;
    const uint64_t attend = rows_that_attend<kRowsOf>(task, key_bits, own_first, block.rows, Shape::kRowsOfWarp);
    MmaRows<Element, kHeadSize, kRowTiles, Weighting> rows;

    if (__syncthreads_or(attend != 0)) {
      copies.copy_queries(queries, task, first, block.rows);
      TileWalk<WordsOfWarp> walk = walk_of<kRowsOf>(WordsOfWarp(key_bits, words), task, first, Shape::kRows, block);
      Tile tile = walk.next();
      int stage = 0;
      copy(tile, stage);
      end_copies();
      wait_for_copies();
      __syncthreads();
      rows.start(queries + own_rows, task, block, own_first);
      while (tile.keys != 0) {
        const Tile following = walk.next();
        copy(following, stage ^ 1);
        end_copies();
        const Cover cover = kRowsOf != RowsOf::sequence
                                ? Cover::full
                                : cover_of(tile, own_first, own_first + Shape::kRowsOfWarp - 1, task.window);
        if (attend != 0 && cover != Cover::none) {
          const uint32_t keys = tiles + stage * 2 * Shape::kTileBytes;
          const float* const factors =
              reinterpret_cast<const float*>(shared + Shape::kFactorsAt + stage * Shape::kFactorBytes);
          const bool all = cover == Cover::full;
          const auto seen = [&](int row) { return all ? tile.keys : keys_seen(tile, own_first + row, task.window); };
          // The few globals that most inputs have need not cost a whole tile.
          if (kRowsOf == RowsOf::sequence && tile.listed && tile.keys <= 0xffff) {
            rows.template add<1>(keys, keys + Shape::kTileBytes, factors, task, true, true, seen);
          } else {
            constexpr int kSteps = Weighting::kMmaSteps;
#pragma unroll 2
            for (int step = 0; step < kTileKeys / 16; step += kSteps)
              rows.template add<kSteps>(keys + 16 * step * Shape::kRowBytes,
                                        keys + 16 * step * Shape::kRowBytes + Shape::kTileBytes, factors + 16 * step,
                                        task, !all || tile.keys != kAllKeys, all, seen);
          }
        }
        // The copy of the following tile is here, and no warp reads this one any more.
        wait_for_copies();
        __syncthreads();
        tile = following;
        stage ^= 1;
      }
      // Each warp has read its queries: their place takes its rows.
      rows.finish(shared + own_rows, attend, task);
      __syncwarp();
    }
    write_rows<Element, kHeadSize, kRowsOf, Shape>(task, block.batch, block.head, own_first, block.rows, attend,
                                                   shared + own_rows);
    if (kRowsOf != RowsOf::list) break;  // a block of threads for each block of rows
    // The next rows' queries are copied to where these lie.
    __syncthreads();
  }
}

}  // namespace lat
