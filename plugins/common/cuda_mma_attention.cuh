// Attention in one pass on the matrix units, for 16-bit elements whose rows lie on 16 bytes. FlashAttention-2's scheme:
// a block of threads holds 64 or 128 rows of one head and walks tiles of 64 keys (tile_walk.h) with an online softmax
// in float32; the next tile's copy runs under the work on this one. A warp owns 16 or 32 rows and skips what lies
// outside of their band. Keys and values of no key are never read; they are zeros in shared memory.
#pragma once

#include "common/cuda_async_copy.cuh"
#include "common/cuda_attention.cuh"
#include "common/cuda_launch.cuh"
#include "common/cuda_mma.cuh"
#include "common/mma_layout.h"

namespace lat {

template <int kHeadSize>
struct MmaAttentionShape {
  // 32 rows a warp read each key from shared memory half as often as 16 would; with D = 128 they do not fit registers.
  static constexpr int kRowTiles = kHeadSize == 128 ? 1 : 2;
  static constexpr int kWarps = 4, kThreads = 32 * kWarps;
  static constexpr int kRowsOfWarp = 16 * kRowTiles, kRows = kWarps * kRowsOfWarp;
  static constexpr int kSteps = kHeadSize / 16;                                     // of a score's sum
  static constexpr int kChunks = kHeadSize / 8;                                     // of 16 bytes in a row
  static constexpr int kKeyColumns = kTileKeys / 8, kValueColumns = kHeadSize / 8;  // of 8, as sums lie in registers
  static constexpr int kTile = kTileKeys * kHeadSize;
  static constexpr int kSharedBytes = (kRows * kHeadSize + 4 * kTile) * 2;
};

// Of the rows of a warp, in the registers of its lanes.
template <class Element, int kHeadSize>
class MmaRows {
 public:
  using Shape = MmaAttentionShape<kHeadSize>;

  __device__ __forceinline__ MmaRows() : lane_(static_cast<int>(threadIdx.x) % 32) {}

  __device__ __forceinline__ void start(const Element* queries) {
#pragma unroll
    for (int tile = 0; tile < Shape::kRowTiles; ++tile) {
#pragma unroll
      for (int step = 0; step < Shape::kSteps; ++step) {
        const Place place = place_by_columns(lane_);
        load_matrices(query_[tile][step],
                      queries + tile * 16 * kHeadSize + swizzled<kHeadSize>(place.row, 2 * step + place.chunk));
      }
#pragma unroll
      for (int half = 0; half < 2; ++half) largest_[tile][half] = -INFINITY, total_[tile][half] = 0.0f;
#pragma unroll
      for (int column = 0; column < Shape::kValueColumns; ++column)
#pragma unroll
        for (int i = 0; i < 4; ++i) context_[tile][column][i] = 0.0f;
    }
  }

  // `seen(row)` gives the keys that row `row` of the warp sees, as bits; it is asked where `some` rows do not see all,
  // once for all rows where they see the `same`.
  template <class Seen>
  __device__ __forceinline__ void add(const Element* keys, const Element* values, float scale_log2, bool some,
                                      bool same, Seen seen) {
    float score[Shape::kRowTiles][Shape::kKeyColumns][4];
    multiply_keys(score, keys);
    if (some) {
      if (same) {
        const uint64_t bits = seen(0);
#pragma unroll
        for (int row = 0; row < 2 * Shape::kRowTiles; ++row) hide(score[row / 2], row % 2, bits);
      } else {
#pragma unroll
        for (int row = 0; row < 2 * Shape::kRowTiles; ++row)
          hide(score[row / 2], row % 2, seen(16 * (row / 2) + sum_row(lane_, 2 * (row % 2))));
      }
    }
    uint32_t weight[Shape::kRowTiles][kTileKeys / 16][4];
#pragma unroll
    for (int tile = 0; tile < Shape::kRowTiles; ++tile) {
#pragma unroll
      for (int half = 0; half < 2; ++half) weigh(score[tile], tile, half, scale_log2);
        // Sums of 16 x 8 for keys 16 s and on, and 16 s + 8 and on, lie as a left operand of 16 x 16 must.
#pragma unroll
      for (int step = 0; step < kTileKeys / 16; ++step)
#pragma unroll
        for (int i = 0; i < 4; ++i)
          weight[tile][step][i] =
              pack<Element>(score[tile][2 * step + i / 2][2 * (i % 2)], score[tile][2 * step + i / 2][2 * (i % 2) + 1]);
    }
    add_values(weight, values);
  }

  // Rows as they are stored, to the warp's part of shared memory; those of `attend` that are 0 become zeros.
  __device__ __forceinline__ void finish(Element* rows, uint64_t attend) {
#pragma unroll
    for (int tile = 0; tile < Shape::kRowTiles; ++tile)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float total = total_[tile][half];
        total += __shfl_xor_sync(0xffffffff, total, 1);
        total += __shfl_xor_sync(0xffffffff, total, 2);
        const int row = 16 * tile + sum_row(lane_, 2 * half);
        const bool some = total > 0.0f && (attend >> row & 1) != 0;
        const float factor = some ? 1.0f / total : 0.0f;
#pragma unroll
        for (int column = 0; column < Shape::kValueColumns; ++column) {
          const float* const sum = context_[tile][column] + 2 * half;
          *reinterpret_cast<uint32_t*>(rows + swizzled<kHeadSize>(row, column) + sum_column(lane_, 0)) =
              some ? pack<Element>(sum[0] * factor, sum[1] * factor) : 0u;
        }
      }
  }

 private:
  __device__ __forceinline__ void multiply_keys(float (&score)[Shape::kRowTiles][Shape::kKeyColumns][4],
                                                const Element* keys) const {
    const Place place = place_by_rows(lane_);
#pragma unroll
    for (int tile = 0; tile < Shape::kRowTiles; ++tile)
#pragma unroll
      for (int column = 0; column < Shape::kKeyColumns; ++column)
#pragma unroll
        for (int i = 0; i < 4; ++i) score[tile][column][i] = 0.0f;
#pragma unroll
    for (int step = 0; step < Shape::kSteps; ++step)
#pragma unroll
      for (int pair = 0; pair < Shape::kKeyColumns / 2; ++pair) {
        uint32_t key[4];
        // The swizzle repeats after 16 rows.
        load_matrices(key, keys + swizzled<kHeadSize>(place.row, 2 * step + place.chunk) + pair * 16 * kHeadSize);
#pragma unroll
        for (int tile = 0; tile < Shape::kRowTiles; ++tile) {
          multiply_add<Element>(score[tile][2 * pair], query_[tile][step], key[0], key[1]);
          multiply_add<Element>(score[tile][2 * pair + 1], query_[tile][step], key[2], key[3]);
        }
      }
  }

  __device__ __forceinline__ void hide(float (&score)[Shape::kKeyColumns][4], int half, uint64_t seen) const {
    seen >>= sum_column(lane_, 0);
    const uint32_t low = static_cast<uint32_t>(seen), high = static_cast<uint32_t>(seen >> 32);
#pragma unroll
    for (int column = 0; column < Shape::kKeyColumns; ++column)
#pragma unroll
      for (int i = 0; i < 2; ++i)
        if (((column < 4 ? low : high) & 1u << (column % 4 * 8 + i)) == 0) score[column][2 * half + i] = -INFINITY;
  }

  // Scores of one row become weights, and what is already summed is set against the new largest score.
  __device__ __forceinline__ void weigh(float (&score)[Shape::kKeyColumns][4], int tile, int half, float scale_log2) {
    float largest = largest_[tile][half];
#pragma unroll
    for (int column = 0; column < Shape::kKeyColumns; ++column)
      largest = fmaxf(largest, fmaxf(score[column][2 * half], score[column][2 * half + 1]));
    largest = fmaxf(largest, __shfl_xor_sync(0xffffffff, largest, 1));
    largest = fmaxf(largest, __shfl_xor_sync(0xffffffff, largest, 2));
    // Of a row that has seen no key yet every weight is exp2(-inf - 0) = 0.
    const float against = largest == -INFINITY ? 0.0f : largest * scale_log2;
    const float before = exp2_fast(fmaf(largest_[tile][half], scale_log2, -against));
    largest_[tile][half] = largest;
    float total = 0.0f;
#pragma unroll
    for (int column = 0; column < Shape::kKeyColumns; ++column)
#pragma unroll
      for (int i = 2 * half; i < 2 * half + 2; ++i) {
        score[column][i] = exp2_fast(fmaf(score[column][i], scale_log2, -against));
        total += score[column][i];
      }
    total_[tile][half] = fmaf(total_[tile][half], before, total);
#pragma unroll
    for (int column = 0; column < Shape::kValueColumns; ++column)
#pragma unroll
      for (int i = 2 * half; i < 2 * half + 2; ++i) context_[tile][column][i] *= before;
  }

  __device__ __forceinline__ void add_values(const uint32_t (&weight)[Shape::kRowTiles][kTileKeys / 16][4],
                                             const Element* values) {
    const Place place = place_by_columns(lane_);
#pragma unroll
    for (int step = 0; step < kTileKeys / 16; ++step)
#pragma unroll
      for (int pair = 0; pair < Shape::kValueColumns / 2; ++pair) {
        uint32_t value[4];
        load_matrices_transposed(
            value, values + swizzled<kHeadSize>(place.row, 2 * pair + place.chunk) + step * 16 * kHeadSize);
#pragma unroll
        for (int tile = 0; tile < Shape::kRowTiles; ++tile) {
          multiply_add<Element>(context_[tile][2 * pair], weight[tile][step], value[0], value[1]);
          multiply_add<Element>(context_[tile][2 * pair + 1], weight[tile][step], value[2], value[3]);
        }
      }
  }

  int lane_;
  uint32_t query_[Shape::kRowTiles][Shape::kSteps][4];
  float context_[Shape::kRowTiles][Shape::kValueColumns][4];
  float largest_[Shape::kRowTiles][2], total_[Shape::kRowTiles][2];  // totals are of this lane's keys
};

// The copies of a block of threads: thread t copies chunk t % kChunks of every kRowStep-th row.
template <class Element, int kHeadSize>
class MmaCopies {
 public:
  using Shape = MmaAttentionShape<kHeadSize>;
  static constexpr int kRowStep = Shape::kThreads / Shape::kChunks;
  static_assert(kRowStep % 8 == 0, "the swizzle must repeat");

  __device__ __forceinline__ MmaCopies(const AttentionTask& task, int64_t batch, int64_t head)
      : row_(static_cast<int>(threadIdx.x) / Shape::kChunks),
        chunk_(static_cast<int>(threadIdx.x) % Shape::kChunks),
        key_(row_of<const Element>(task.key, batch, 0, head * kHeadSize + chunk_ * 8)),
        value_(row_of<const Element>(task.value, batch, 0, head * kHeadSize + chunk_ * 8)),
        positions_(task.list.positions + batch * task.tokens) {}

  // Rows `first` and on of the task's queries, zeros from row `rows` on.
  __device__ __forceinline__ void copy_queries(Element* to, const AttentionTask& task, int64_t batch, int64_t head,
                                               int64_t first, int64_t rows) const {
    const Element* const from = row_of<const Element>(task.query, batch, 0, head * kHeadSize + chunk_ * 8);
    to += swizzled<kHeadSize>(row_, chunk_);
#pragma unroll 2
    for (int row = row_; row < Shape::kRows; row += kRowStep, to += kRowStep * kHeadSize) {
      const bool there = first + row < rows;
      copy_or_zero(to, from + (there ? (first + row) * task.query.row_stride : 0), there);
    }
  }

  // All threads of a warp must call it together.
  __device__ __forceinline__ void copy(Element* keys, const AttentionTask& task, const Tile& tile) const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int64_t first = int64_t{kTileKeys} * tile.index;
    int32_t low = static_cast<int32_t>(first), high = low + 32;  // of rows 0 to 31, and 32 to 63
    if (tile.listed) {
      low = (tile.keys >> lane & 1) != 0 ? positions_[first + lane] : 0;
      high = (tile.keys >> (lane + 32) & 1) != 0 ? positions_[first + lane + 32] : 0;
    } else {
      low += lane, high += lane;
    }
    keys += swizzled<kHeadSize>(row_, chunk_);
#pragma unroll 2
    for (int row = row_; row < kTileKeys; row += kRowStep, keys += kRowStep * kHeadSize) {
      // The rows of a warp lie in the same half: there are 4, 8 or 16 of them, or 2, side by side.
      const int32_t token = __shfl_sync(0xffffffff, row < 32 ? low : high, row % 32);
      const bool there = (tile.keys >> row & 1) != 0;
      copy_or_zero(keys, there ? key_ + token * task.key.row_stride : key_, there);
      copy_or_zero(keys + Shape::kTile, there ? value_ + token * task.value.row_stride : value_, there);
    }
  }

 private:
  int row_, chunk_;
  const Element *key_, *value_;
  const int32_t* positions_;
};

// A warp's rows, 16 bytes a lane. Rows of the sequence that do not attend become zeros; shared memory is not read then.
template <class Element, int kHeadSize, RowsOf kRowsOf>
__device__ __forceinline__ void write_rows(const AttentionTask& task, int64_t batch, int64_t head, int64_t first,
                                           int64_t rows, uint64_t attend, const Element* from, int lane) {
  using Shape = MmaAttentionShape<kHeadSize>;
#pragma unroll
  for (int at = 0; at < Shape::kRowsOfWarp * Shape::kChunks; at += 32) {
    const int place = at + lane, row = place / Shape::kChunks, chunk = place % Shape::kChunks;
    if (first + row >= rows) continue;
    int64_t token = first + row;
    if (kRowsOf == RowsOf::list) token = task.list.positions[batch * task.tokens + token];
    uint4 numbers = make_uint4(0, 0, 0, 0);
    if ((attend >> row & 1) != 0) numbers = *reinterpret_cast<const uint4*>(from + swizzled<kHeadSize>(row, chunk));
    *reinterpret_cast<uint4*>(row_of<Element>(task.output, batch, token, head * kHeadSize + chunk * 8)) = numbers;
  }
}

template <class Element, int kHeadSize, RowsOf kRowsOf>
__global__ void __launch_bounds__(MmaAttentionShape<kHeadSize>::kThreads, 2)
    mma_attention(const __grid_constant__ AttentionTask task) {
  using Shape = MmaAttentionShape<kHeadSize>;
  extern __shared__ __align__(128) unsigned char shared[];
  Element* const queries = reinterpret_cast<Element*>(shared);
  Element* const tiles = queries + Shape::kRows * kHeadSize;  // keys, values; keys, values

  const AttentionBlock<kRowsOf, Shape::kRows> block(task);
  const int32_t words = static_cast<int32_t>(tiles_of(task.tokens));
  const uint64_t* const key_bits = task.list.key_bits + block.batch * words;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  Element* const own_rows = queries + warp * Shape::kRowsOfWarp * kHeadSize;
  const MmaCopies<Element, kHeadSize> copies(task, block.batch, block.head);

  for (int64_t first = block.first; first < block.rows; first += block.step) {
    const int64_t own_first = first + warp * Shape::kRowsOfWarp;
    const uint64_t attend = rows_that_attend<kRowsOf>(key_bits, own_first, block.rows, Shape::kRowsOfWarp);
    MmaRows<Element, kHeadSize> rows;

    if (__syncthreads_or(attend != 0)) {
      copies.copy_queries(queries, task, block.batch, block.head, first, block.rows);
      const int64_t last = (first + Shape::kRows < block.rows ? first + Shape::kRows : block.rows) - 1;
      TileWalk<WordsOfWarp> walk(WordsOfWarp(key_bits, words), task.tokens, task.window,
                                 kRowsOf == RowsOf::list ? 0 : first, kRowsOf == RowsOf::list ? task.tokens - 1 : last,
                                 block.listed);
      Tile tile = walk.next();
      int stage = 0;
      if (tile.keys != 0) copies.copy(tiles, task, tile);
      end_copies();
      wait_for_copies();
      __syncthreads();
      rows.start(own_rows);
      while (tile.keys != 0) {
        const Tile following = walk.next();
        if (following.keys != 0) copies.copy(tiles + (stage ^ 1) * 2 * Shape::kTile, task, following);
        end_copies();
        const Cover cover = kRowsOf == RowsOf::list
                                ? Cover::full
                                : cover_of(tile, own_first, own_first + Shape::kRowsOfWarp - 1, task.window);
        if (attend != 0 && cover != Cover::none) {
          const Element* const keys = tiles + stage * 2 * Shape::kTile;
          rows.add(keys, keys + Shape::kTile, task.scale_log2, cover == Cover::part || tile.keys != kAllKeys,
                   cover == Cover::full, [&](int row) {
                     return cover == Cover::full ? tile.keys : keys_seen(tile, own_first + row, task.window);
                   });
        }
        // The copy of the following tile is here, and no warp reads this one any more.
        wait_for_copies();
        __syncthreads();
        tile = following;
        stage ^= 1;
      }
      // Each warp has read its queries: their place takes its rows.
      rows.finish(own_rows, attend);
      __syncwarp();
    }
    write_rows<Element, kHeadSize, kRowsOf>(task, block.batch, block.head, own_first, block.rows, attend, own_rows,
                                            lane);
    // The next rows' queries are copied to where these lie.
    __syncthreads();
  }
}

}  // namespace lat
