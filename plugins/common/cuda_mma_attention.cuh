// Attention in one pass on the matrix units, for elements whose rows lie on 16 bytes: of 16 bits, or float32 where it
// may be rounded to TF32. FlashAttention-2's scheme: a block of threads holds 64 or 128 rows of one head and walks
// tiles of 64 keys (tile_walk.h), which it weighs in float32; where shared memory has room for two tiles, the next
// one's copy runs under the work on this one. A warp owns 16 or 32 rows and skips what lies outside of their band. Keys
// and values of no key are never read; they are zeros in shared memory.
#pragma once

#include "common/cuda_async_copy.cuh"
#include "common/cuda_attention.cuh"
#include "common/cuda_instructions.cuh"
#include "common/cuda_launch.cuh"
#include "common/cuda_mma_products.cuh"

namespace lat {

// 32 rows a warp read each key from shared memory half as often as 16 would; with D = 128 they do not fit registers,
// and a list of rows is short: smaller blocks of them are more.
template <int kHeadSize, RowsOf kRowsOf>
constexpr int kMostRowTiles = kHeadSize == 128 || kRowsOf == RowsOf::list ? 1 : 2;

template <class Element, int kHeadSize, int kRowTiles, class Weighting>
struct MmaAttentionShape {
  static constexpr int kWarps = 4, kThreads = 32 * kWarps;
  static constexpr int kRowsOfWarp = 16 * kRowTiles, kRows = kWarps * kRowsOfWarp;
  static constexpr bool kIsFloat = sizeof(Element) == 4;
  static constexpr int kChunkNumbers = 16 / sizeof(Element), kChunks = kHeadSize / kChunkNumbers;  // in a row
  static constexpr uint32_t kRowBytes = sizeof(Element) * kHeadSize, kTileBytes = kTileKeys * kRowBytes;
  // Tiles of keys and values that there is room for: 99 KiB is all that a block has on sm_86, 89 and 120.
  static constexpr int kStages = kRowBytes > 256 ? 1 : 2;
  // Rows of float32 lie where tiles come to lie: queries until the warps have them in registers, the output at the end.
  static constexpr uint32_t kTilesAt = kIsFloat ? 0 : kRows * kRowBytes;
  // Steps of 16 keys that are weighted at once: queries of float32 take twice the registers.
  static constexpr int kSteps = kIsFloat && kHeadSize >= 64 ? 2 : Weighting::kMmaSteps;
  // Factors of a tile's keys lie behind all tiles.
  static constexpr uint32_t kFactorsAt = kTilesAt + 2 * kStages * kTileBytes;
  static_assert(kRows * kRowBytes <= kFactorsAt);
  static constexpr uint32_t kFactorBytes = Weighting::kUnitRows ? 4 * kTileKeys : 0;
  static constexpr int kSharedBytes = static_cast<int>(kFactorsAt + 2 * kFactorBytes);
};

// Of the rows of a warp, in the registers of its lanes.
template <class Element, int kHeadSize, int kRowTiles, class Weighting>
class MmaRows {
 public:
  // Rows `first` and on of `block`.
  template <RowsOf kRowsOf>
  __device__ __forceinline__ void start(uint32_t queries, const typename Weighting::Task& task,
                                        const AttentionBlock<kRowsOf>& block, int32_t first) {
    products_.start(queries);
    weights_.template start<kRowsOf>(task, block.batch, block.head, first, block.rows);
  }

  // 16 * kGroups keys of a tile. `seen(row)` gives those that row `row` of the warp sees, as bits; it is asked where
  // `some` rows do not see all, once for all rows where they see the `same`.
  template <int kGroups, class Seen>
  __device__ __forceinline__ void add(uint32_t keys, uint32_t values, const float* key_factors,
                                      const typename Weighting::Task& task, bool some, bool same, Seen seen) {
    float score[kRowTiles][2 * kGroups][4];
    products_.template multiply_keys<kGroups>(score, keys);
    if (Weighting::kHidesKeys && some) {
      if (same) {
        const uint64_t bits = seen(0);
#pragma unroll
        for (int row = 0; row < 2 * kRowTiles; ++row) hide_keys(score[row / 2], row % 2, bits);
      } else {
#pragma unroll
        for (int row = 0; row < 2 * kRowTiles; ++row)
          hide_keys(score[row / 2], row % 2, seen(16 * (row / 2) + sum_row(lane_of_warp(), 2 * (row % 2))));
      }
    }
    uint32_t weight[kRowTiles][Products::kOperands * kGroups][4];
    weights_.weigh(score, products_.context(), task, key_factors,
                   [&](int tile) { products_.template pack_weights<kGroups>(weight[tile], score[tile]); });
    products_.template add_values<kGroups>(weight, values);
  }

  // Rows as they are stored, to the warp's part of shared memory; those of `attend` that are 0 become zeros.
  __device__ __forceinline__ void finish(unsigned char* rows, uint64_t attend, const typename Weighting::Task& task) {
    const int lane = lane_of_warp();
#pragma unroll
    for (int tile = 0; tile < kRowTiles; ++tile)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float factor = weights_.factor(products_.context()[tile], tile, half, task);
        const int row = 16 * tile + sum_row(lane, 2 * half);
        const bool some = factor != 0.0f && (attend >> row & 1) != 0;
#pragma unroll
        for (int column = 0; column < Products::kValueColumns; ++column) {
          const float* const sum = products_.context()[tile][column] + 2 * half;
          const int number = sum_column(lane, 0);
          if constexpr (sizeof(Element) == 4)
            *reinterpret_cast<float2*>(rows + swizzled<kHeadSize, 4>(row, 2 * column + number / 4) + number % 4 * 4) =
                some ? make_float2(sum[0] * factor, sum[1] * factor) : make_float2(0.0f, 0.0f);
          else
            *reinterpret_cast<uint32_t*>(rows + swizzled<kHeadSize>(row, column) + 2 * number) =
                some ? pack<Element>(sum[0] * factor, sum[1] * factor) : 0u;
        }
      }
  }

 private:
  using Products = MmaProducts<Element, Element, kHeadSize, kRowTiles, Weighting::kKeepsPlaces>;
  Products products_;
  typename Weighting::template MmaWeights<kRowTiles> weights_;
};

// The copies of a block of threads: thread t copies chunk t % kChunks of every kRowStep-th row.
template <class Element, int kHeadSize, class Shape>
class MmaCopies {
 public:
  static constexpr int kRowStep = Shape::kThreads / Shape::kChunks;
  // The swizzle repeats after 8 rows; 4 rows further, chunks of a row of 512 bytes are those that bit 2 makes of them.
  static constexpr uint32_t kTurn = kRowStep % 8 * 16;
  static_assert(kTurn == 0 || (kRowStep == 4 && Shape::kChunks >= 8));

  // Addresses are worked out anew for each tile: kept, they would take registers from the sums.
  __device__ __forceinline__ MmaCopies(int32_t batch, int32_t head) : batch_(batch), head_(head) {}

  // Rows `first` and on of the task's queries, zeros from row `rows` on.
  __device__ __forceinline__ void copy_queries(uint32_t to, const AttentionRows& task, int32_t first,
                                               int32_t rows) const {
    const int thread = thread_of_block(), chunk = thread % Shape::kChunks;
    int row = thread / Shape::kChunks;
    const Element* const from =
        row_of<const Element>(task.query, batch_, 0, int64_t{head_} * kHeadSize + chunk * kNumbers);
    to += swizzled<kHeadSize, sizeof(Element)>(row, chunk);
#pragma unroll 2
    for (; row < Shape::kRows; row += kRowStep, to = (to ^ kTurn) + kRowStep * Shape::kRowBytes) {
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
    to += swizzled<kHeadSize, sizeof(Element)>(row, chunk);
#pragma unroll 2
    for (; row < kTileKeys; row += kRowStep, to = (to ^ kTurn) + kRowStep * Shape::kRowBytes) {
      // The rows of a warp, at most 16 side by side, lie in the same half.
      const int32_t token = __shfl_sync(0xffffffff, row < 32 ? low : high, row % 32);
      const bool there = (tile.keys >> row & 1) != 0;
      copy_or_zero(to, key + (there ? token * task.key.row_stride + chunk * kNumbers : 0), there);
      copy_or_zero(to + Shape::kTileBytes, value + (there ? token * task.value.row_stride + chunk * kNumbers : 0),
                   there);
    }
  }

 private:
  static constexpr int kNumbers = Shape::kChunkNumbers;

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
    if ((attend >> row & 1) != 0)
      numbers = *reinterpret_cast<const uint4*>(from + swizzled<kHeadSize, sizeof(Element)>(row, chunk));
    *reinterpret_cast<uint4*>(
        row_of<Element>(task.output, batch, token, int64_t{head} * kHeadSize + chunk * Shape::kChunkNumbers)) = numbers;
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
__global__ void __launch_bounds__(MmaAttentionShape<Element, kHeadSize, kRowTiles, Weighting>::kThreads,
                                  Weighting::mma_blocks(kHeadSize))
    mma_attention(const __grid_constant__ typename Weighting::Task task) {
  using Shape = MmaAttentionShape<Element, kHeadSize, kRowTiles, Weighting>;
  LAT_SHARED_MEMORY(shared);
  const uint32_t queries = shared_address(shared);
  const uint32_t tiles = queries + Shape::kTilesAt;  // keys, values; keys, values

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
      if constexpr (Shape::kTilesAt == 0) {
        end_copies();
        wait_for_copies();
        __syncthreads();
        rows.start(queries + own_rows, task, block, own_first);
        __syncthreads();  // all have been read, and tiles may come
      }
      TileWalk<WordsOfWarp> walk = walk_of<kRowsOf>(WordsOfWarp(key_bits, words), task, first, Shape::kRows, block);
      Tile tile = walk.next();
      int stage = 0;
      copy(tile, stage);
      end_copies();
      wait_for_copies();
      __syncthreads();
      if constexpr (Shape::kTilesAt != 0) rows.start(queries + own_rows, task, block, own_first);
      while (tile.keys != 0) {
        const Tile following = walk.next();
        if constexpr (Shape::kStages == 2) {
          copy(following, stage ^ 1);
          end_copies();
        }
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
            constexpr int kSteps = Shape::kSteps;
#pragma unroll Shape::kIsFloat ? 1 : 2
            for (int step = 0; step < kTileKeys / 16; step += kSteps)
              rows.template add<kSteps>(keys + 16 * step * Shape::kRowBytes,
                                        keys + 16 * step * Shape::kRowBytes + Shape::kTileBytes, factors + 16 * step,
                                        task, !all || tile.keys != kAllKeys, all,
                                        [&](int row) { return seen(row) >> (16 * step); });
          }
        }
        if constexpr (Shape::kStages == 1) {
          __syncthreads();
          copy(following, stage);
          end_copies();
        }
        // The copy of the following tile is here, and no warp reads this one any more.
        wait_for_copies();
        __syncthreads();
        tile = following;
        if constexpr (Shape::kStages == 2) stage ^= 1;
      }
      // Queries have been read, and tiles too: the place of its queries takes the rows of a warp.
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
