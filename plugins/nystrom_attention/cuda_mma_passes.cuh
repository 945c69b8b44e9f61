// Passes 2b and 4 of lat::NystromAttention on the matrix units, for 16-bit elements whose rows lie on 16 bytes. Both
// are attention with an online softmax in float32, 16 rows a warp over tiles of 64: the query landmarks over a segment
// of the keys, and the queries over the key landmarks with the summary for values.
#pragma once

#include "common/cuda_copy_rows.cuh"
#include "common/cuda_launch.cuh"
#include "common/cuda_sum_rows.cuh"
#include "common/cuda_value_convolution.cuh"
#include "common/tile_walk.h"
#include "nystrom_attention/cuda_landmarks.cuh"

namespace lat {

// 16 rows in the registers of a warp. Weights and values are multiplied as `Value`, queries and keys as `Element`.
template <class Element, class Value, int kHeadSize>
class MmaLandmarkRows {
 public:
  static constexpr int kSteps = kHeadSize / 16, kValueColumns = kHeadSize / 8, kGroups = kTileKeys / 16;
  static constexpr uint32_t kRowBytes = 2 * kHeadSize;

  __device__ __forceinline__ void start(uint32_t queries) {
    const Place place = place_by_columns(lane_of_warp());
    queries += swizzled<kHeadSize>(place.row, place.chunk);
#pragma unroll
    for (int step = 0; step < kSteps; ++step) load_matrices(query_[step], pairs_further(queries, step));
#pragma unroll
    for (int half = 0; half < 2; ++half) largest_[half] = -INFINITY, total_[half] = 0.0f;
#pragma unroll
    for (int column = 0; column < kValueColumns; ++column)
#pragma unroll
      for (int i = 0; i < 4; ++i) context_[column][i] = 0.0f;
  }

  // A tile of 64 keys; those whose bit is 0 have no weight, and at least one has its bit set.
  __device__ __forceinline__ void add(uint32_t keys, uint32_t values, float scale_log2, uint64_t seen) {
    float score[2 * kGroups][4];
    multiply_keys(score, keys);
    if (seen != kAllKeys) hide(score, seen);
#pragma unroll
    for (int half = 0; half < 2; ++half) weigh(score, half, scale_log2);
    add_values(score, values);
  }

  // Row sum_row(lane, 2 * half): the sum of its weights, in every lane that has numbers of it.
  __device__ __forceinline__ float total(int half) const {
    float total = total_[half];
    total += __shfl_xor_sync(0xffffffff, total, 1);
    return total + __shfl_xor_sync(0xffffffff, total, 2);
  }
  __device__ __forceinline__ float largest(int half) const { return largest_[half]; }
  // Sums of weights times values, as mma.sync leaves them.
  __device__ __forceinline__ float (&context())[kValueColumns][4] { return context_; }

 private:
  __device__ __forceinline__ void multiply_keys(float (&score)[2 * kGroups][4], uint32_t keys) const {
    const Place place = place_by_rows(lane_of_warp());
    keys += swizzled<kHeadSize>(place.row, place.chunk);
#pragma unroll
    for (int column = 0; column < 2 * kGroups; ++column)
#pragma unroll
      for (int i = 0; i < 4; ++i) score[column][i] = 0.0f;
    uint32_t key[2][4];  // the next ones are on their way while these are multiplied
    load_matrices(key[0], keys);
#pragma unroll
    for (int at = 0; at < kSteps * kGroups; ++at) {
      const int step = at / kGroups, pair = at % kGroups, next = at + 1;
      if (next < kSteps * kGroups)
        load_matrices(key[next % 2], pairs_further(keys, next / kGroups) + next % kGroups * 16 * kRowBytes);
      multiply_add<Element>(score[2 * pair], query_[step], key[at % 2][0], key[at % 2][1]);
      multiply_add<Element>(score[2 * pair + 1], query_[step], key[at % 2][2], key[at % 2][3]);
    }
  }

  __device__ __forceinline__ void hide(float (&score)[2 * kGroups][4], uint64_t seen) const {
    seen >>= sum_column(lane_of_warp(), 0);
    const uint32_t low = static_cast<uint32_t>(seen), high = static_cast<uint32_t>(seen >> 32);
#pragma unroll
    for (int column = 0; column < 2 * kGroups; ++column)
#pragma unroll
      for (int i = 0; i < 4; ++i)
        if (((column < 4 ? low : high) & 1u << (column % 4 * 8 + i % 2)) == 0) score[column][i] = -INFINITY;
  }

  // Scores become weights, and what is already summed is set against the new largest score.
  __device__ __forceinline__ void weigh(float (&score)[2 * kGroups][4], int half, float scale_log2) {
    float largest = largest_[half];
#pragma unroll
    for (int column = 0; column < 2 * kGroups; ++column)
      largest = fmaxf(largest, fmaxf(score[column][2 * half], score[column][2 * half + 1]));
    largest = fmaxf(largest, __shfl_xor_sync(0xffffffff, largest, 1));
    largest = fmaxf(largest, __shfl_xor_sync(0xffffffff, largest, 2));
    const float against = largest * scale_log2;
    const float before = exp2_fast(fmaf(largest_[half], scale_log2, -against));
    largest_[half] = largest;
    float total = 0.0f;
#pragma unroll
    for (int column = 0; column < 2 * kGroups; ++column)
#pragma unroll
      for (int i = 2 * half; i < 2 * half + 2; ++i) {
        const float weight = exp2_fast(fmaf(score[column][i], scale_log2, -against));
        score[column][i] = weight;
        total += weight;
      }
    total_[half] = fmaf(total_[half], before, total);
#pragma unroll
    for (int column = 0; column < kValueColumns; ++column)
#pragma unroll
      for (int i = 2 * half; i < 2 * half + 2; ++i) context_[column][i] *= before;
  }

  __device__ __forceinline__ void add_values(const float (&weight)[2 * kGroups][4], uint32_t values) {
    const Place place = place_by_columns(lane_of_warp());
    values += swizzled<kHeadSize>(place.row, place.chunk);
    constexpr int kPairs = kValueColumns / 2;
    uint32_t value[2][4], left[4];
    load_matrices_transposed(value[0], values);
#pragma unroll
    for (int at = 0; at < kGroups * kPairs; ++at) {
      const int step = at / kPairs, pair = at % kPairs, next = at + 1;
      if (pair == 0)
      // Sums of 16 x 8 for keys 16 s and on, and 16 s + 8 and on, lie as a left operand of 16 x 16 must.
#pragma unroll
        for (int i = 0; i < 4; ++i)
          left[i] = pack<Value>(weight[2 * step + i / 2][2 * (i % 2)], weight[2 * step + i / 2][2 * (i % 2) + 1]);
      if (next < kGroups * kPairs)
        load_matrices_transposed(value[next % 2],
                                 pairs_further(values, next % kPairs) + next / kPairs * 16 * kRowBytes);
      multiply_add<Value>(context_[2 * pair], left, value[at % 2][0], value[at % 2][1]);
      multiply_add<Value>(context_[2 * pair + 1], left, value[at % 2][2], value[at % 2][3]);
    }
  }

  uint32_t query_[kSteps][4];
  float context_[kValueColumns][4];
  float largest_[2], total_[2];  // totals are of this lane's keys
};

template <int kHeadSize>
struct MmaKeysShape {
  static constexpr int kWarps = kLandmarkRows / 16, kThreads = 32 * kWarps;
  static constexpr uint32_t kTileBytes = kTileKeys * 2 * kHeadSize;
  static constexpr int kOwnBytes = static_cast<int>(5 * kTileBytes);  // queries; keys, values; keys, values
  static constexpr int kSharedBytes = kOwnBytes > Kernel2Shape::kSharedBytes ? kOwnBytes : Kernel2Shape::kSharedBytes;
  static_assert(kThreads == Kernel2Shape::kThreads);
};

// The first blocks of threads, one a head: kernel_2. The others: 64 landmarks, one segment of the keys.
template <class Element, int kHeadSize>
__global__ void __launch_bounds__(MmaKeysShape<kHeadSize>::kThreads, kHeadSize == 128 ? 2 : 3)
    mma_mix_values(const __grid_constant__ NystromTask task) {
  using Shape = MmaKeysShape<kHeadSize>;
  LAT_SHARED_MEMORY(shared);
  const int64_t block = task.first_block + blockIdx.x;
  if (block < task.heads) return find_kernel_2<kHeadSize>(task, block, shared);
  const KeySegment own(task, block - task.heads);
  const uint32_t queries = shared_address(shared), tiles = queries + Shape::kTileBytes;
  const int warp = thread_of_block() / 32, lane = lane_of_warp();
  const int32_t first_row = kLandmarkRows * own.panel, warp_row = first_row + 16 * warp;

  const auto copy = [&](uint32_t to, int32_t tile) {
    const uint64_t keys = own.keys(task, tile);
    const auto there = [&](int row) { return (keys >> row & 1) != 0 ? int64_t{row} : int64_t{-1}; };
    const int64_t token = int64_t{kTileKeys} * tile;
    copy_rows<kHeadSize, kTileKeys, Shape::kThreads>(to, row_of<const Element>(task.key, own.batch, token, own.column),
                                                     task.key.row_stride, there);
    copy_rows<kHeadSize, kTileKeys, Shape::kThreads>(to + Shape::kTileBytes,
                                                     row_of<const Element>(task.value, own.batch, token, own.column),
                                                     task.value.row_stride, there);
  };
  copy_rows<kHeadSize, kLandmarkRows, Shape::kThreads>(
      queries,
      static_cast<const Element*>(task.query_16) + (own.head * task.landmarks + first_row) * int64_t{kHeadSize},
      int64_t{kHeadSize},
      [&](int row) { return own.any && first_row + row < task.landmarks ? int64_t{row} : int64_t{-1}; });
  int32_t tile = own.next(task, own.from);
  if (tile < own.to) copy(tiles, tile);
  end_copies();
  wait_for_copies();
  __syncthreads();
  MmaLandmarkRows<Element, Element, kHeadSize> rows;
  rows.start(queries + warp * 16 * 2 * kHeadSize);
  for (uint32_t stage = 0; tile < own.to; stage ^= 1) {
    const int32_t following = own.next(task, tile + 1);
    if (following < own.to) copy(tiles + (stage ^ 1) * 2 * Shape::kTileBytes, following);
    end_copies();
    const uint32_t keys = tiles + stage * 2 * Shape::kTileBytes;
    if (warp_row < task.landmarks) rows.add(keys, keys + Shape::kTileBytes, task.scale_log2, own.keys(task, tile));
    // The copy of the following tile is here, and no warp reads this one any more.
    wait_for_copies();
    __syncthreads();
    tile = following;
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int32_t row = warp_row + sum_row(lane, 2 * half);
    const float total = rows.total(half);
    if (row >= task.landmarks) continue;
    const int64_t place = own.place(task, row);
    if (lane % 4 == 0) {
      task.part_sum[place] = total;
      task.part_largest[place] = total > 0.0f ? rows.largest(half) * task.scale_log2 : -INFINITY;
    }
    if (total > 0.0f)
#pragma unroll
      for (int column = 0; column < kHeadSize / 8; ++column)
        *reinterpret_cast<float2*>(task.parts + place * kHeadSize + 8 * column + sum_column(lane, 0)) = {
            rows.context()[column][2 * half], rows.context()[column][2 * half + 1]};
  }
}

template <class Element, int kHeadSize>
struct MmaOutputShape {
  // With 8 warps of D = 64 and two blocks a multiprocessor the registers do not suffice.
  static constexpr int kWarps = kHeadSize < 64 ? 8 : 4, kThreads = 32 * kWarps, kRows = 16 * kWarps;
  static constexpr int kBlocks = kHeadSize == 64 ? 3 : 2;
  using Convolution = MmaConvolution<Element, kHeadSize, kWarps>;
  static constexpr uint32_t kRowBytes = 2 * kHeadSize, kTileBytes = kLandmarkRows * kRowBytes;
  // Queries; landmarks and summary for each panel; the convolution's.
  static int shared_bytes(int panels, bool convolution) {
    return static_cast<int>(kRows * kRowBytes + 2 * panels * kTileBytes) +
           (convolution ? Convolution::kSharedBytes : 0);
  }
};

// `run` blocks of rows of one head, one after the other: the next one's queries are on their way while this one's are
// at work. Weights and summary are multiplied as float16 whatever the element type.
template <class Element, int kHeadSize>
__global__ void __launch_bounds__(MmaOutputShape<Element, kHeadSize>::kThreads,
                                  MmaOutputShape<Element, kHeadSize>::kBlocks)
    mma_write_output(const __grid_constant__ NystromTask task) {
  using Shape = MmaOutputShape<Element, kHeadSize>;
  LAT_SHARED_MEMORY(shared);
  const int64_t block = task.first_block + blockIdx.x, head = block / task.row_blocks;
  const int32_t batch = static_cast<int32_t>(head / task.num_heads);
  const int32_t column = static_cast<int32_t>(head % task.num_heads) * kHeadSize;
  const int32_t from = static_cast<int32_t>(block % task.row_blocks) * task.run;  // blocks of rows
  const int32_t all = (task.tokens - 1) / Shape::kRows + 1, to = all - from < task.run ? all : from + task.run;
  const uint32_t queries = shared_address(shared), landmarks = queries + Shape::kRows * Shape::kRowBytes;
  const int warp = thread_of_block() / 32;

  const auto copy_queries = [&](int64_t first) {
    copy_rows<kHeadSize, Shape::kRows, Shape::kThreads>(
        queries, row_of<const Element>(task.query, batch, first, column), task.query.row_stride,
        [&](int row) { return first + row < task.tokens ? int64_t{row} : int64_t{-1}; });
    end_copies();
  };
  for (int32_t panel = 0; panel < task.panels; ++panel) {
    const int32_t first = kLandmarkRows * panel;
    const int64_t numbers = (head * task.landmarks + first) * kHeadSize;
    const auto there = [&](int row) { return first + row < task.landmarks ? int64_t{row} : int64_t{-1}; };
    const uint32_t tile = landmarks + 2 * panel * Shape::kTileBytes;
    copy_rows<kHeadSize, kLandmarkRows, Shape::kThreads>(tile, static_cast<const Element*>(task.key_16) + numbers,
                                                         int64_t{kHeadSize}, there);
    copy_rows<kHeadSize, kLandmarkRows, Shape::kThreads>(
        tile + Shape::kTileBytes, static_cast<const __half*>(task.summary) + numbers, int64_t{kHeadSize}, there);
  }
  copy_queries(int64_t{from} * Shape::kRows);
  typename Shape::Convolution convolution(
      shared + Shape::kRows * Shape::kRowBytes + 2 * task.panels * Shape::kTileBytes,
      row_of<const Element>(task.value, batch, 0, column), task.value.row_stride, task.tokens,
      static_cast<const Element*>(task.conv_weight) + column / kHeadSize * task.taps, task.taps);
  if (task.conv_weight != nullptr) convolution.load();
  for (int32_t at = from; at < to; ++at) {
    const int64_t first = int64_t{at} * Shape::kRows;
    MmaLandmarkRows<Element, __half, kHeadSize> rows;
    wait_for_copies();
    __syncthreads();  // this block's queries are here, and no warp reads values of the one before any more
    rows.start(queries + warp * 16 * Shape::kRowBytes);
    __syncthreads();
    if (task.conv_weight != nullptr) convolution.start(first);
    if (at + 1 < to) copy_queries(first + Shape::kRows);
    for (int32_t panel = 0; panel < task.panels; ++panel) {
      const int32_t some = task.landmarks - kLandmarkRows * panel;
      const uint32_t tile = landmarks + 2 * panel * Shape::kTileBytes;
      rows.add(tile, tile + Shape::kTileBytes, task.scale_log2, low_bits(some < kLandmarkRows ? some : kLandmarkRows));
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float factor = task.summary_scale[int64_t{batch} * task.num_heads + column / kHeadSize] / rows.total(half);
#pragma unroll
      for (int place = 0; place < kHeadSize / 8; ++place)
#pragma unroll
        for (int i = 2 * half; i < 2 * half + 2; ++i) rows.context()[place][i] *= factor;
    }
    if (task.conv_weight != nullptr) convolution.add(rows.context(), first);
    const int64_t own = first + 16 * warp;
    write_sums<Element, kHeadSize>(row_of<Element>(task.output, batch, own, column), task.output.row_stride,
                                   task.tokens - own, rows.context());
  }
}

template <class Element, int kHeadSize>
void launch_mma_mix_values(NystromTask task, cudaStream_t stream, lat_status& status) {
  using Shape = MmaKeysShape<kHeadSize>;
  task.blocks = task.heads * (1 + int64_t{task.segments} * task.panels);
  launch_all("kernel_3 x values", mma_mix_values<Element, kHeadSize>, task, task.blocks, Shape::kThreads,
             Shape::kSharedBytes, stream, status);
}

template <class Element, int kHeadSize>
void launch_mma_output(NystromTask task, cudaStream_t stream, lat_status& status) {
  using Shape = MmaOutputShape<Element, kHeadSize>;
  const int64_t blocks = (int64_t{task.tokens} + Shape::kRows - 1) / Shape::kRows;
  const int64_t run = (blocks * task.heads + kBlocksThatFill - 1) / kBlocksThatFill;
  task.run = static_cast<int32_t>(run < 16 ? run : 16);
  task.row_blocks = static_cast<int32_t>((blocks + task.run - 1) / task.run);
  task.blocks = task.heads * task.row_blocks;
  launch_all("output", mma_write_output<Element, kHeadSize>, task, task.blocks, Shape::kThreads,
             Shape::shared_bytes(task.panels, task.conv_weight != nullptr), stream, status);
}

}  // namespace lat
