// Passes 2b and 4 of lat::NystromAttention without matrix units: float32, and 16-bit elements whose rows do not lie on
// 16 bytes. Every product is a fused multiply-add in float32; why, is said in common/cuda_simt_attention.cuh.
//
// A block of threads holds 64 rows over tiles of 64; a thread has rows 4 * group + i, group = thread / 8, as
// SimtConvolution has them: of the scores, keys lane, lane + 8, ...; of the context, its columns.
#pragma once

#include "common/cuda_value_convolution.cuh"
#include "nystrom_attention/cuda_landmarks.cuh"

namespace lat {

template <int kHeadSize>
struct SimtLandmarkShape {
  using Convolution = SimtConvolution<float, kHeadSize>;
  static constexpr int kThreads = Convolution::kThreads, kLanes = Convolution::kLanes;
  static constexpr int kOwnRows = Convolution::kOwnRows, kRows = Convolution::kRows, kColumns = Convolution::kColumns;
  static constexpr int kOwnKeys = kTileKeys / kLanes;
  static constexpr int kStride = kHeadSize + 4, kWeightStride = kTileKeys + 4;  // rows begin in different banks
  static constexpr int kRowFloats = kRows * kStride, kWeightFloats = kRows * kWeightStride;
  // Rows; keys, then values; weights. The convolution takes the place of the last two.
  static constexpr int kOwnBytes = (2 * kRowFloats + kWeightFloats) * 4;
  static constexpr int kSharedBytes = kOwnBytes > Kernel2Shape::kSharedBytes ? kOwnBytes : Kernel2Shape::kSharedBytes;
  static_assert(kThreads == Kernel2Shape::kThreads && kRows == kLandmarkRows && kRows == kTileKeys);
  static_assert(Convolution::kSharedBytes <= (kRowFloats + kWeightFloats) * 4);
};

template <int kHeadSize>
class SimtLandmarkRows {
 public:
  using Shape = SimtLandmarkShape<kHeadSize>;

  __device__ __forceinline__ SimtLandmarkRows() {
#pragma unroll
    for (int i = 0; i < Shape::kOwnRows; ++i) {
      largest_[i] = -INFINITY, total_[i] = 0.0f;
#pragma unroll
      for (int own = 0; own < Shape::kColumns; ++own) context_[i][own] = 0.0f;
    }
  }

  // Weights of a tile's keys, to shared memory; those whose bit is 0 have none, and at least one has its bit set.
  __device__ __forceinline__ void weigh(const float* rows, const float* keys, float* weights, float scale_log2,
                                        uint64_t seen) {
    const int lane = thread_of_block() % Shape::kLanes;
    float score[Shape::kOwnRows][Shape::kOwnKeys] = {};
#pragma unroll 4
    for (int at = 0; at < kHeadSize; at += 4) {
      float4 row[Shape::kOwnRows], key[Shape::kOwnKeys];
#pragma unroll
      for (int i = 0; i < Shape::kOwnRows; ++i)
        row[i] = *reinterpret_cast<const float4*>(rows + Shape::Convolution::row(i) * Shape::kStride + at);
#pragma unroll
      for (int j = 0; j < Shape::kOwnKeys; ++j)
        key[j] = *reinterpret_cast<const float4*>(keys + (lane + j * Shape::kLanes) * Shape::kStride + at);
#pragma unroll
      for (int i = 0; i < Shape::kOwnRows; ++i)
#pragma unroll
        for (int j = 0; j < Shape::kOwnKeys; ++j) {
          score[i][j] = fmaf(row[i].x, key[j].x, score[i][j]);
          score[i][j] = fmaf(row[i].y, key[j].y, score[i][j]);
          score[i][j] = fmaf(row[i].z, key[j].z, score[i][j]);
          score[i][j] = fmaf(row[i].w, key[j].w, score[i][j]);
        }
    }
    seen >>= lane;
#pragma unroll
    for (int i = 0; i < Shape::kOwnRows; ++i) {
      float largest = largest_[i];
#pragma unroll
      for (int j = 0; j < Shape::kOwnKeys; ++j) {
        if ((seen >> (j * Shape::kLanes) & 1) == 0) score[i][j] = -INFINITY;
        largest = fmaxf(largest, score[i][j]);
      }
#pragma unroll
      for (int step = 1; step < Shape::kLanes; step *= 2)
        largest = fmaxf(largest, __shfl_xor_sync(0xffffffff, largest, step));
      // The difference comes first: scaled apart, two large scores would lose what they differ in.
      const float before = exp2f((largest_[i] - largest) * scale_log2);
      largest_[i] = largest;
      total_[i] *= before;
#pragma unroll
      for (int j = 0; j < Shape::kOwnKeys; ++j) {
        const float weight = exp2f((score[i][j] - largest) * scale_log2);
        total_[i] += weight;
        weights[Shape::Convolution::row(i) * Shape::kWeightStride + lane + j * Shape::kLanes] = weight;
      }
#pragma unroll
      for (int own = 0; own < Shape::kColumns; ++own) context_[i][own] *= before;
    }
  }

  __device__ __forceinline__ void add_values(const float* weights, const float* values) {
#pragma unroll 2
    for (int key = 0; key < kTileKeys; key += 4) {
      float weight[Shape::kOwnRows][4];
#pragma unroll
      for (int i = 0; i < Shape::kOwnRows; ++i)
        *reinterpret_cast<float4*>(weight[i]) =
            *reinterpret_cast<const float4*>(weights + Shape::Convolution::row(i) * Shape::kWeightStride + key);
#pragma unroll
      for (int k = 0; k < 4; ++k)
#pragma unroll
        for (int own = 0; own < Shape::kColumns; ++own) {
          const float value = values[(key + k) * Shape::kStride + Shape::Convolution::column(own)];
#pragma unroll
          for (int i = 0; i < Shape::kOwnRows; ++i) context_[i][own] = fmaf(weight[i][k], value, context_[i][own]);
        }
    }
  }

  __device__ __forceinline__ float total(int own) const {
    float total = total_[own];
#pragma unroll
    for (int step = 1; step < Shape::kLanes; step *= 2) total += __shfl_xor_sync(0xffffffff, total, step);
    return total;
  }
  __device__ __forceinline__ float largest(int own) const { return largest_[own]; }
  __device__ __forceinline__ float (&context())[Shape::kOwnRows][Shape::kColumns] { return context_; }

 private:
  float largest_[Shape::kOwnRows], total_[Shape::kOwnRows];  // totals are of this lane's keys
  float context_[Shape::kOwnRows][Shape::kColumns];
};

// 64 rows to shared memory as float32; `token(row)` says which of those from `from` on, below 0 is a row of zeros.
template <int kHeadSize, class Element, class Token>
__device__ __forceinline__ void load_rows(float* to, const Element* from, int64_t stride, Token token) {
  using Shape = SimtLandmarkShape<kHeadSize>;
#pragma unroll 8
  for (int at = thread_of_block(); at < Shape::kRows * kHeadSize; at += Shape::kThreads) {
    const int row = at / kHeadSize, column = at % kHeadSize;
    const int64_t source = token(row);
    to[row * Shape::kStride + column] = source < 0 ? 0.0f : to_float(from[source * stride + column]);
  }
}

// As mma_mix_values.
template <class Element, int kHeadSize>
__global__ void __launch_bounds__(SimtLandmarkShape<kHeadSize>::kThreads, 2)
    simt_mix_values(const __grid_constant__ NystromTask task) {
  using Shape = SimtLandmarkShape<kHeadSize>;
  LAT_SHARED_MEMORY(shared);
  const int64_t block = task.first_block + blockIdx.x;
  if (block < task.heads) return find_kernel_2<kHeadSize>(task, block, shared);
  const KeySegment own(task, block - task.heads);
  float* const queries = reinterpret_cast<float*>(shared);
  float* const keys = queries + Shape::kRowFloats;  // then the values
  float* const weights = keys + Shape::kRowFloats;
  const int32_t first_row = kLandmarkRows * own.panel;

  load_rows<kHeadSize>(
      queries, task.of_query + (own.head * task.landmarks + first_row) * int64_t{kHeadSize}, int64_t{kHeadSize},
      [&](int row) { return own.any && first_row + row < task.landmarks ? int64_t{row} : int64_t{-1}; });
  SimtLandmarkRows<kHeadSize> rows;
  for (int32_t tile = own.next(task, own.from); tile < own.to; tile = own.next(task, tile + 1)) {
    const uint64_t seen = own.keys(task, tile);
    const auto there = [&](int row) { return (seen >> row & 1) != 0 ? int64_t{row} : int64_t{-1}; };
    const int64_t token = int64_t{kTileKeys} * tile;
    load_rows<kHeadSize>(keys, row_of<const Element>(task.key, own.batch, token, own.column), task.key.row_stride,
                         there);
    __syncthreads();
    rows.weigh(queries, keys, weights, task.scale_log2, seen);
    __syncthreads();
    load_rows<kHeadSize>(keys, row_of<const Element>(task.value, own.batch, token, own.column), task.value.row_stride,
                         there);
    __syncthreads();
    rows.add_values(weights, keys);
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < Shape::kOwnRows; ++i) {
    const int32_t row = first_row + Shape::Convolution::row(i);
    const float total = rows.total(i);
    if (row >= task.landmarks) continue;
    const int64_t place = own.place(task, row);
    if (thread_of_block() % Shape::kLanes == 0) {
      task.part_sum[place] = total;
      task.part_largest[place] = total > 0.0f ? rows.largest(i) * task.scale_log2 : -INFINITY;
    }
    if (total > 0.0f)
#pragma unroll
      for (int at = 0; at < Shape::kColumns; ++at)
        task.parts[place * kHeadSize + Shape::Convolution::column(at)] = rows.context()[i][at];
  }
}

// 64 rows of one head.
template <class Element, int kHeadSize>
__global__ void __launch_bounds__(SimtLandmarkShape<kHeadSize>::kThreads, 2)
    simt_write_output(const __grid_constant__ NystromTask task) {
  using Shape = SimtLandmarkShape<kHeadSize>;
  LAT_SHARED_MEMORY(shared);
  float* const queries = reinterpret_cast<float*>(shared);
  float* const keys = queries + Shape::kRowFloats;  // then the summary
  float* const weights = keys + Shape::kRowFloats;
  const int64_t block = task.first_block + blockIdx.x, head = block / task.row_blocks;
  const int64_t batch = head / task.num_heads, column = head % task.num_heads * kHeadSize;
  const int64_t first = block % task.row_blocks * Shape::kRows;

  load_rows<kHeadSize>(queries, row_of<const Element>(task.query, batch, first, column), task.query.row_stride,
                       [&](int row) { return first + row < task.tokens ? int64_t{row} : int64_t{-1}; });
  SimtLandmarkRows<kHeadSize> rows;
  for (int32_t panel = 0; panel < task.panels; ++panel) {
    const int32_t some = task.landmarks - kLandmarkRows * panel;
    const int64_t from = (head * task.landmarks + kLandmarkRows * panel) * kHeadSize;
    const auto there = [&](int row) { return row < some ? int64_t{row} : int64_t{-1}; };
    load_rows<kHeadSize>(keys, task.of_key + from, int64_t{kHeadSize}, there);
    __syncthreads();
    rows.weigh(queries, keys, weights, task.scale_log2, low_bits(some < kLandmarkRows ? some : kLandmarkRows));
    __syncthreads();
    load_rows<kHeadSize>(keys, static_cast<const float*>(task.summary) + from, int64_t{kHeadSize}, there);
    __syncthreads();
    rows.add_values(weights, keys);
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < Shape::kOwnRows; ++i) {
    const float factor = 1.0f / rows.total(i);
#pragma unroll
    for (int at = 0; at < Shape::kColumns; ++at) rows.context()[i][at] *= factor;
  }
  if (task.conv_weight != nullptr)
    SimtConvolution<Element, kHeadSize>(
        reinterpret_cast<unsigned char*>(keys), row_of<const Element>(task.value, batch, 0, column),
        task.value.row_stride, task.tokens,
        static_cast<const Element*>(task.conv_weight) + head % task.num_heads * task.taps, task.taps)
        .add(rows.context(), first);
#pragma unroll
  for (int i = 0; i < Shape::kOwnRows; ++i) {
    const int64_t token = first + Shape::Convolution::row(i);
    if (token >= task.tokens) continue;
#pragma unroll
    for (int at = 0; at < Shape::kColumns; ++at)
      *row_of<Element>(task.output, batch, token, column + Shape::Convolution::column(at)) =
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
