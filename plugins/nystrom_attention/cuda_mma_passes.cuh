// Passes 2b and 4 of lat::NystromAttention on the matrix units, for 16-bit elements whose rows lie on 16 bytes. Both
// are attention with an online softmax in float32, 16 rows a warp over tiles of 64: the query landmarks over a segment
// of the keys, and the queries over the key landmarks with the summary for values.
#pragma once

#include "common/cuda_copy_rows.cuh"
#include "common/cuda_launch.cuh"
#include "common/cuda_mma_products.cuh"
#include "common/cuda_softmax.cuh"
#include "common/cuda_sum_rows.cuh"
#include "common/cuda_value_convolution.cuh"
#include "common/tile_walk.h"
#include "nystrom_attention/cuda_landmarks.cuh"

namespace lat {

// 16 rows in the registers of a warp. Weights and values are multiplied as `Value`, queries and keys as `Element`.
template <class Element, class Value, int kHeadSize>
class MmaLandmarkRows {
 public:
  __device__ __forceinline__ void start(uint32_t queries, float scale_log2) {
    products_.start(queries);
    weights_.start(scale_log2);
  }

  // A tile of 64 keys; those whose bit is 0 have no weight.
  __device__ __forceinline__ void add(uint32_t keys, uint32_t values, uint64_t seen) {
    constexpr int kGroups = kTileKeys / 16;
    float score[1][2 * kGroups][4];
    products_.template multiply_keys<kGroups>(score, keys);
    if (seen != kAllKeys)
#pragma unroll
      for (int half = 0; half < 2; ++half) hide_keys(score[0], half, seen);
    uint32_t weight[1][kGroups][4];
    weights_.weigh(score, products_.context(),
                   [&](int) { products_.template pack_weights<kGroups>(weight[0], score[0]); });
    products_.template add_values<kGroups>(weight, values);
  }

  // Of row sum_row(lane, 2 * half).
  __device__ __forceinline__ float total(int half) const { return weights_.total(0, half); }
  __device__ __forceinline__ float largest(int half) const { return weights_.largest(0, half); }
  // Sums of weights times values, as mma.sync leaves them.
  __device__ __forceinline__ float (&context())[kHeadSize / 8][4] { return products_.context()[0]; }

 private:
  MmaProducts<Element, Value, kHeadSize, 1, false> products_;
  Softmax::MmaWeights<1> weights_;
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
  rows.start(queries + warp * 16 * 2 * kHeadSize, task.scale_log2);
  for (uint32_t stage = 0; tile < own.to; stage ^= 1) {
    const int32_t following = own.next(task, tile + 1);
    if (following < own.to) copy(tiles + (stage ^ 1) * 2 * Shape::kTileBytes, following);
    end_copies();
    const uint32_t keys = tiles + stage * 2 * Shape::kTileBytes;
    if (warp_row < task.landmarks) rows.add(keys, keys + Shape::kTileBytes, own.keys(task, tile));
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
    rows.start(queries + warp * 16 * Shape::kRowBytes, task.scale_log2);
    __syncthreads();
    if (task.conv_weight != nullptr) convolution.start(first);
    if (at + 1 < to) copy_queries(first + Shape::kRows);
    for (int32_t panel = 0; panel < task.panels; ++panel) {
      const int32_t some = task.landmarks - kLandmarkRows * panel;
      const uint32_t tile = landmarks + 2 * panel * Shape::kTileBytes;
      rows.add(tile, tile + Shape::kTileBytes, low_bits(some < kLandmarkRows ? some : kLandmarkRows));
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
