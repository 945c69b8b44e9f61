// Passes 2b and 4 of lat::NystromAttention without matrix units: float32, and 16-bit elements whose rows do not lie on
// 16 bytes. Every product is a fused multiply-add in float32; why, is said in common/cuda_simt_attention.cuh.
//
// A block of threads holds 64 rows over tiles of 64; a thread has the rows and columns that SimtConvolution gives it.
#pragma once

#include "common/cuda_simt_products.cuh"
#include "common/cuda_softmax.cuh"
#include "common/cuda_value_convolution.cuh"
#include "nystrom_attention/cuda_landmarks.cuh"

namespace lat {

template <int kHeadSize>
struct SimtLandmarkShape {
  using Convolution = SimtConvolution<float, kHeadSize>;
  static constexpr int kThreads = Convolution::kThreads, kRows = Convolution::kRows;
  // Blocks of threads that a multiprocessor is to hold: as many as registers and 227 KB of shared memory allow.
  static constexpr int kBlocks = kHeadSize == 32 || kHeadSize == 64 ? 3 : 2;
  static constexpr int kRowFloats = kRows * kSimtStride<kHeadSize>, kWeightFloats = kRows * kSimtStride<kTileKeys>;
  // Rows; keys, then values; weights. The convolution takes the place of the last two.
  static constexpr int kOwnBytes = (2 * kRowFloats + kWeightFloats) * 4;
  static constexpr int kSharedBytes = kOwnBytes > Kernel2Shape::kSharedBytes ? kOwnBytes : Kernel2Shape::kSharedBytes;
  static_assert(kThreads == Kernel2Shape::kThreads && kRows == kLandmarkRows && kRows == kTileKeys);
  static_assert(Convolution::kSharedBytes <= (kRowFloats + kWeightFloats) * 4);
};

template <int kHeadSize>
struct SimtLandmarkLayout {
  using Convolution = SimtConvolution<float, kHeadSize>;
  static constexpr int kLanes = Convolution::kLanes, kOwnRows = Convolution::kOwnRows;
  static constexpr int kColumns = Convolution::kColumns;

  static __device__ __forceinline__ int lane() { return thread_of_block() % kLanes; }
  static __device__ __forceinline__ int row(int own) { return Convolution::row(own); }
  static __device__ __forceinline__ int column(int own) { return Convolution::column(own); }
};

template <int kHeadSize>
class SimtLandmarkRows {
 public:
  using Layout = SimtLandmarkLayout<kHeadSize>;

  __device__ __forceinline__ explicit SimtLandmarkRows(float scale_log2) { weights_.start(scale_log2); }

  // Weights of a tile's keys, to shared memory; those whose bit is 0 have none.
  __device__ __forceinline__ void weigh(const float* rows, const float* keys, float* weights, uint64_t seen) {
    float score[Products::kOwnRows][Products::kOwnKeys];
    products_.multiply_keys(score, rows, keys);
#pragma unroll
    for (int i = 0; i < Products::kOwnRows; ++i) {
      hide_simt_keys<Layout::kLanes>(score[i], seen, Layout::lane());
      weights_.weigh(score[i], products_.context()[i], i);
      products_.store_weights(weights, score[i], i);
    }
  }

  __device__ __forceinline__ void add_values(const float* weights, const float* values) {
    products_.add_values(weights, values);
  }

  __device__ __forceinline__ float total(int own) const { return weights_.total(own); }
  __device__ __forceinline__ float largest(int own) const { return weights_.largest(own); }
  __device__ __forceinline__ float (&context())[Layout::kOwnRows][Layout::kColumns] { return products_.context(); }

 private:
  using Products = SimtProducts<kHeadSize, Layout>;
  Products products_;
  Softmax::SimtWeights<Layout::kOwnRows, Layout::kLanes> weights_;
};

// As mma_mix_values.
template <class Element, int kHeadSize>
__global__ void __launch_bounds__(SimtLandmarkShape<kHeadSize>::kThreads, SimtLandmarkShape<kHeadSize>::kBlocks)
    simt_mix_values(const __grid_constant__ NystromTask task) {
  using Shape = SimtLandmarkShape<kHeadSize>;
  using Layout = SimtLandmarkLayout<kHeadSize>;
  LAT_SHARED_MEMORY(shared);
  const int64_t block = task.first_block + blockIdx.x;
  if (block < task.heads) return find_kernel_2<kHeadSize>(task, block, shared);
  const KeySegment own(task, block - task.heads);
  float* const queries = reinterpret_cast<float*>(shared);
  float* const keys = queries + Shape::kRowFloats;  // then the values
  float* const weights = keys + Shape::kRowFloats;
  const int32_t first_row = kLandmarkRows * own.panel;

  load_simt_rows<kHeadSize, Shape::kThreads>(
      queries, task.of_query + (own.head * task.landmarks + first_row) * int64_t{kHeadSize}, int64_t{kHeadSize},
      [&](int row) { return own.any && first_row + row < task.landmarks ? int64_t{row} : int64_t{-1}; });
  SimtLandmarkRows<kHeadSize> rows(task.scale_log2);
  for (int32_t tile = own.next(task, own.from); tile < own.to; tile = own.next(task, tile + 1)) {
    const uint64_t seen = own.keys(task, tile);
    const auto there = [&](int row) { return (seen >> row & 1) != 0 ? int64_t{row} : int64_t{-1}; };
    const int64_t token = int64_t{kTileKeys} * tile;
    load_simt_rows<kHeadSize, Shape::kThreads>(keys, row_of<const Element>(task.key, own.batch, token, own.column),
                                               task.key.row_stride, there);
    __syncthreads();
    rows.weigh(queries, keys, weights, seen);
    __syncthreads();
    load_simt_rows<kHeadSize, Shape::kThreads>(keys, row_of<const Element>(task.value, own.batch, token, own.column),
                                               task.value.row_stride, there);
    __syncthreads();
    rows.add_values(weights, keys);
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < Layout::kOwnRows; ++i) {
    const int32_t row = first_row + Layout::row(i);
    const float total = rows.total(i);
    if (row >= task.landmarks) continue;
    const int64_t place = own.place(task, row);
    if (thread_of_block() % Layout::kLanes == 0) {
      task.part_sum[place] = total;
      task.part_largest[place] = total > 0.0f ? rows.largest(i) * task.scale_log2 : -INFINITY;
    }
    if (total > 0.0f)
#pragma unroll
      for (int at = 0; at < Layout::kColumns; ++at)
        task.parts[place * kHeadSize + Layout::column(at)] = rows.context()[i][at];
  }
}

// 64 rows of one head.
template <class Element, int kHeadSize>
__global__ void __launch_bounds__(SimtLandmarkShape<kHeadSize>::kThreads, SimtLandmarkShape<kHeadSize>::kBlocks)
    simt_write_output(const __grid_constant__ NystromTask task) {
  using Shape = SimtLandmarkShape<kHeadSize>;
  using Layout = SimtLandmarkLayout<kHeadSize>;
  LAT_SHARED_MEMORY(shared);
  float* const queries = reinterpret_cast<float*>(shared);
  float* const keys = queries + Shape::kRowFloats;  // then the summary
  float* const weights = keys + Shape::kRowFloats;
  const int64_t block = task.first_block + blockIdx.x, head = block / task.row_blocks;
  const int64_t batch = head / task.num_heads, column = head % task.num_heads * kHeadSize;
  const int64_t first = block % task.row_blocks * Shape::kRows;

  load_simt_rows<kHeadSize, Shape::kThreads>(
      queries, row_of<const Element>(task.query, batch, first, column), task.query.row_stride,
      [&](int row) { return first + row < task.tokens ? int64_t{row} : int64_t{-1}; });
  SimtLandmarkRows<kHeadSize> rows(task.scale_log2);
  for (int32_t panel = 0; panel < task.panels; ++panel) {
    const int32_t some = task.landmarks - kLandmarkRows * panel;
    const int64_t from = (head * task.landmarks + kLandmarkRows * panel) * kHeadSize;
    const auto there = [&](int row) { return row < some ? int64_t{row} : int64_t{-1}; };
    load_simt_rows<kHeadSize, Shape::kThreads>(keys, task.of_key + from, int64_t{kHeadSize}, there);
    __syncthreads();
    rows.weigh(queries, keys, weights, low_bits(some < kLandmarkRows ? some : kLandmarkRows));
    __syncthreads();
    load_simt_rows<kHeadSize, Shape::kThreads>(keys, static_cast<const float*>(task.summary) + from, int64_t{kHeadSize},
                                               there);
    __syncthreads();
    rows.add_values(weights, keys);
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < Layout::kOwnRows; ++i) {
    const float factor = 1.0f / rows.total(i);
#pragma unroll
    for (int at = 0; at < Layout::kColumns; ++at) rows.context()[i][at] *= factor;
  }
  if (task.conv_weight != nullptr)
    SimtConvolution<Element, kHeadSize>(
        reinterpret_cast<unsigned char*>(keys), row_of<const Element>(task.value, batch, 0, column),
        task.value.row_stride, task.tokens,
        static_cast<const Element*>(task.conv_weight) + head % task.num_heads * task.taps, task.taps)
        .add(rows.context(), first);
#pragma unroll
  for (int i = 0; i < Layout::kOwnRows; ++i) {
    const int64_t token = first + Layout::row(i);
    if (token >= task.tokens) continue;
#pragma unroll
    for (int at = 0; at < Layout::kColumns; ++at)
      *row_of<Element>(task.output, batch, token, column + Layout::column(at)) =
          from_float<Element>(rows.context()[i][at]);
  }
}

template <class Element, int kHeadSize>
void launch_simt_mix_values(NystromTask task, cudaStream_t stream, lat_status& status) {
  using Shape = SimtLandmarkShape<kHeadSize>;
  task.blocks = task.heads * (1 + int64_t{task.segments} * task.panels);
  launch_all("kernel_3 x values", simt_mix_values<Element, kHeadSize>, task, task.blocks, Shape::kThreads,
             Shape::kSharedBytes, stream, status);
}

template <class Element, int kHeadSize>
void launch_simt_output(NystromTask task, cudaStream_t stream, lat_status& status) {
  using Shape = SimtLandmarkShape<kHeadSize>;
  task.row_blocks = static_cast<int32_t>((int64_t{task.tokens} + Shape::kRows - 1) / Shape::kRows);
  task.blocks = task.heads * task.row_blocks;
  launch_all("output", simt_write_output<Element, kHeadSize>, task, task.blocks, Shape::kThreads, Shape::kSharedBytes,
             stream, status);
}

}  // namespace lat
