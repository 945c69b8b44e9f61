// Passes 1 and 2a of lat::NystromAttention on the device: landmarks, words of key bits, and kernel_2.
#pragma once

#include "common/cuda_launch.cuh"
#include "common/tile_walk.h"
#include "nystrom_attention/cuda_task.cuh"

namespace lat {

struct LandmarkShape {
  static constexpr int kWarps = 8, kThreads = 32 * kWarps;
  static constexpr int kRowsAtOnce = 8;  // of a warp, whose loads are under way together
};

// One row of the mask: its words, and whether there is a token at all.
__device__ __forceinline__ void find_key_bits(const NystromTask& task, int64_t batch) {
  __shared__ int32_t found[LandmarkShape::kWarps];
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int32_t* const mask = task.attention_mask + batch * task.tokens;
  const int64_t tiles = tiles_of(task.tokens);
  bool any = false;
#pragma unroll 4
  for (int64_t tile = warp; tile < tiles; tile += LandmarkShape::kWarps) {
    const int64_t token = tile * kTileKeys + lane;
    const uint32_t low = __ballot_sync(0xffffffff, token < task.tokens && mask[token] != LAT_PADDING);
    const uint32_t high = __ballot_sync(0xffffffff, token + 32 < task.tokens && mask[token + 32] != LAT_PADDING);
    if (lane == 0) task.key_bits[batch * tiles + tile] = uint64_t{high} << 32 | low;
    any = any || (low | high) != 0;
  }
  if (lane == 0) found[warp] = any;
  __syncthreads();
  if (threadIdx.x == 0) {
    int32_t all = 0;
    for (int at = 0; at < LandmarkShape::kWarps; ++at) all |= found[at];
    task.any_token[batch] = all;
  }
}

// kVector numbers of a row, which lie on 16 bytes unless it is one.
template <class Element, int kVector>
__device__ __forceinline__ void read_vector(const Element* from, Element (&to)[kVector]) {
  if constexpr (kVector == 1)
    to[0] = *from;
  else
    *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(from);
}

// The first B blocks of threads: find_key_bits. The others: one landmark of the queries, later of the keys, 32 *
// kVector columns of it. Warps take its rows in turn; their sums are added up in their order.
template <class Element, int kVector, bool kWith16>
__global__ void __launch_bounds__(LandmarkShape::kThreads, 4) find_landmarks(const __grid_constant__ NystromTask task) {
  constexpr int kColumns = 32 * kVector, kAtOnce = LandmarkShape::kRowsAtOnce, kWarps = LandmarkShape::kWarps;
  __shared__ float sums[kWarps][kColumns];
  int64_t block = task.first_block + blockIdx.x;
  if (block < task.batch) return find_key_bits(task, block);
  block -= task.batch;
  const int64_t width = int64_t{task.num_heads} * task.head_size, column_blocks = (width + kColumns - 1) / kColumns;
  const int64_t first_column = block % column_blocks * kColumns;
  block /= column_blocks;
  const int64_t landmark = block % task.landmarks;
  block /= task.landmarks;
  const int64_t batch = block % task.batch;
  const bool of_query = block < task.batch;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;

  const lat_rows& rows = of_query ? task.query : task.key;
  const int64_t column = first_column + lane * kVector;
  const Element* const from = row_of<const Element>(rows, batch, landmark * task.rows_of_landmark, column);
  float sum[kVector] = {};
  if (column < width) {
    for (int32_t first = warp; first < task.rows_of_landmark; first += kAtOnce * kWarps) {
      alignas(16) Element read[kAtOnce][kVector];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        // The last one again, where there is none.
        const bool there = first < task.rows_of_landmark - i * kWarps;
        read_vector(from + (there ? int64_t{first} + i * kWarps : int64_t{first}) * rows.row_stride, read[i]);
      }
      // Rows that are added up before their sum joins a longer one: it rounds less.
      float some[kVector] = {};
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i)
#pragma unroll
        for (int at = 0; at < kVector; ++at)
          some[at] += first < task.rows_of_landmark - i * kWarps ? to_float(read[i][at]) : 0.0f;
#pragma unroll
      for (int at = 0; at < kVector; ++at) sum[at] += some[at];
    }
  }
#pragma unroll
  for (int at = 0; at < kVector; ++at) sums[warp][lane * kVector + at] = sum[at];
  __syncthreads();
  const int own = static_cast<int>(threadIdx.x);
  const int64_t own_column = first_column + own;
  if (own >= kColumns || own_column >= width) return;
  float mean = 0.0f;
#pragma unroll
  for (int at = 0; at < kWarps; ++at) mean += sums[at][own];
  mean /= static_cast<float>(task.rows_of_landmark);
  const int64_t head = batch * task.num_heads + own_column / task.head_size;
  const int64_t to = (head * task.landmarks + landmark) * task.head_size + own_column % task.head_size;
  (of_query ? task.of_query : task.of_key)[to] = mean;
  if (kWith16) static_cast<Element*>(of_query ? task.query_16 : task.key_16)[to] = from_float<Element>(mean);
}

// kernel_2 of one head, in float32, and its largest column sum; 128 threads.
struct Kernel2Shape {
  static constexpr int kThreads = 128, kLanes = 16, kOwnRows = 8, kOwnColumns = 4;  // of 64 x 64
  static constexpr int kRowGroups = kThreads / kLanes;
  static constexpr int kSlice = 32, kStride = kSlice + 4;  // of D
  static constexpr int kSharedBytes = 2 * kLandmarkRows * kStride * 4;
};

// One slice of 64 landmarks to shared memory; zeros beyond the last.
template <int kHeadSize>
__device__ __forceinline__ void load_landmarks(float* to, const float* from, int32_t rows, int slice) {
  constexpr int kRun = kHeadSize < Kernel2Shape::kSlice ? kHeadSize : Kernel2Shape::kSlice;
#pragma unroll 4
  for (int at = static_cast<int>(threadIdx.x); at < kLandmarkRows * kRun / 4; at += Kernel2Shape::kThreads) {
    const int row = at / (kRun / 4), place = at % (kRun / 4) * 4;
    const float4 zero = {0.0f, 0.0f, 0.0f, 0.0f};
    *reinterpret_cast<float4*>(to + row * Kernel2Shape::kStride + place) =
        row < rows ? *reinterpret_cast<const float4*>(from + int64_t{row} * kHeadSize + slice + place) : zero;
  }
}

template <int kHeadSize>
__device__ __forceinline__ void find_kernel_2(const NystromTask& task, int64_t head, unsigned char* shared) {
  using Shape = Kernel2Shape;
  constexpr int kRun = kHeadSize < Shape::kSlice ? kHeadSize : Shape::kSlice;
  float* const rows = reinterpret_cast<float*>(shared);
  float* const columns = rows + kLandmarkRows * Shape::kStride;
  const int thread = static_cast<int>(threadIdx.x), tx = thread % Shape::kLanes, ty = thread / Shape::kLanes;
  const int padded = kLandmarkRows * task.panels;
  float* const kernel_2 = task.kernel_2 + head * padded * padded;
  const float* const of_query = task.of_query + head * task.landmarks * kHeadSize;
  const float* const of_key = task.of_key + head * task.landmarks * kHeadSize;

  // Scores, 64 x 64 at a time.
  for (int first_row = 0; first_row < padded; first_row += kLandmarkRows)
    for (int first_column = 0; first_column < padded; first_column += kLandmarkRows) {
      float score[Shape::kOwnRows][Shape::kOwnColumns] = {};
      for (int slice = 0; slice < kHeadSize; slice += kRun) {
        __syncthreads();
        load_landmarks<kHeadSize>(rows, of_query + first_row * kHeadSize, task.landmarks - first_row, slice);
        load_landmarks<kHeadSize>(columns, of_key + first_column * kHeadSize, task.landmarks - first_column, slice);
        __syncthreads();
#pragma unroll 2
        for (int at = 0; at < kRun; at += 4) {
          float4 row[Shape::kOwnRows], column[Shape::kOwnColumns];
#pragma unroll
          for (int i = 0; i < Shape::kOwnRows; ++i)
            row[i] = *reinterpret_cast<const float4*>(rows + (ty + i * Shape::kRowGroups) * Shape::kStride + at);
#pragma unroll
          for (int j = 0; j < Shape::kOwnColumns; ++j)
            column[j] = *reinterpret_cast<const float4*>(columns + (tx + j * Shape::kLanes) * Shape::kStride + at);
#pragma unroll
          for (int i = 0; i < Shape::kOwnRows; ++i)
#pragma unroll
            for (int j = 0; j < Shape::kOwnColumns; ++j) {
              score[i][j] = fmaf(row[i].x, column[j].x, score[i][j]);
              score[i][j] = fmaf(row[i].y, column[j].y, score[i][j]);
              score[i][j] = fmaf(row[i].z, column[j].z, score[i][j]);
              score[i][j] = fmaf(row[i].w, column[j].w, score[i][j]);
            }
        }
      }
#pragma unroll
      for (int i = 0; i < Shape::kOwnRows; ++i)
#pragma unroll
        for (int j = 0; j < Shape::kOwnColumns; ++j)
          kernel_2[(first_row + ty + i * Shape::kRowGroups) * padded + first_column + tx + j * Shape::kLanes] =
              score[i][j];
    }
  __syncthreads();

  // Softmax, a warp a row.
  constexpr int kOfLane = kMostLandmarks / 32;
  const int lane = thread % 32;
#pragma unroll 4
  for (int row = thread / 32; row < padded; row += Shape::kThreads / 32) {
    float score[kOfLane], largest = -INFINITY;
#pragma unroll
    for (int i = 0; i < kOfLane; ++i) {
      score[i] = lane + 32 * i < task.landmarks ? kernel_2[row * padded + lane + 32 * i] : -INFINITY;
      largest = fmaxf(largest, score[i]);
    }
#pragma unroll
    for (int step = 16; step > 0; step /= 2) largest = fmaxf(largest, __shfl_xor_sync(0xffffffff, largest, step));
    float total = 0.0f;
#pragma unroll
    for (int i = 0; i < kOfLane; ++i) {
      score[i] = exp2f((score[i] - largest) * task.scale_log2);
      total += score[i];
    }
#pragma unroll
    for (int step = 16; step > 0; step /= 2) total += __shfl_xor_sync(0xffffffff, total, step);
    const float factor = row < task.landmarks ? 1.0f / total : 0.0f;
#pragma unroll
    for (int i = 0; i < kOfLane; ++i)
      if (lane + 32 * i < padded) kernel_2[row * padded + lane + 32 * i] = score[i] * factor;
  }
  __syncthreads();

  float sum = 0.0f;
  if (thread < task.landmarks)
#pragma unroll 8
    for (int row = 0; row < task.landmarks; ++row) sum += kernel_2[row * padded + thread];
  const float largest = largest_of_block<Shape::kThreads>(sum, rows);
  if (thread == 0) task.largest[head] = largest;
}

template <class Element, bool kWith16>
void launch_landmarks(NystromTask task, cudaStream_t stream, lat_status& status) {
  const auto run = [&](void (*kernel)(NystromTask), int64_t columns) {
    const int64_t width = int64_t{task.num_heads} * task.head_size;
    task.blocks = task.batch + 2 * int64_t{task.batch} * task.landmarks * ((width + columns - 1) / columns);
    launch_all("landmarks", kernel, task, task.blocks, LandmarkShape::kThreads, 0, stream, status);
  };
  constexpr int kVector = 16 / static_cast<int>(sizeof(Element));
  if (lies_on_16_bytes(task.query, sizeof(Element)) && lies_on_16_bytes(task.key, sizeof(Element)))
    run(find_landmarks<Element, kVector, kWith16>, 32 * kVector);
  else
    run(find_landmarks<Element, 1, kWith16>, 32);
}

}  // namespace lat
