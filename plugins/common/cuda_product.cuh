// Projections on the device: rows of [B, N, E] times W^T, W of [E, E] out x in, plus a bias, to rows without gaps. Rows
// of the batch with too few globals, and rows beyond the list of globals, cost an early return.
#pragma once

#include "common/cuda_async_copy.cuh"
#include "common/cuda_attention.cuh"
#include "common/cuda_instructions.cuh"
#include "common/cuda_launch.cuh"
#include "common/mma_layout.h"

namespace lat {

struct ProductTask {
  static constexpr int kMost = 2;
  lat_rows from;
  const void* weight[kMost];  // as many products of the same rows as `products` says
  const void* bias[kMost];    // null: none
  lat_rows to[kMost];
  TokenList list;
  int64_t first_block;
  int64_t width;
  int32_t tokens, products;
  int32_t row_blocks, column_blocks;
  int32_t least_globals;  // a row of the batch with fewer is left out
};

constexpr int kProductColumns = 64, kProductSlice = 64;  // of W^T; of the sums, at a time

// What a block of threads works on: kRows rows and kProductColumns columns, then row_blocks * kRows rows further.
template <RowsOf kRowsOf>
struct ProductBlock {
  int32_t batch, product, row_block, rows;
  int64_t column;

  __device__ __forceinline__ explicit ProductBlock(const ProductTask& task) {
    int64_t block = task.first_block + blockIdx.x;
    row_block = static_cast<int32_t>(block % task.row_blocks);
    block /= task.row_blocks;
    column = block % task.column_blocks * kProductColumns;
    block /= task.column_blocks;
    product = static_cast<int32_t>(block % task.products);
    batch = static_cast<int32_t>(block / task.products);
    const int32_t globals = task.list.counts[batch];
    rows = globals < task.least_globals ? 0 : kRowsOf == RowsOf::list ? globals : task.tokens;
  }

  __device__ __forceinline__ int32_t token(const ProductTask& task, int32_t row) const {
    return kRowsOf == RowsOf::list ? task.list.positions[int64_t{batch} * task.tokens + row] : row;
  }
};

template <class Element>
__device__ __forceinline__ float bias_at(const ProductTask& task, int product, int64_t column) {
  const Element* const bias = static_cast<const Element*>(task.bias[product]);
  return bias == nullptr ? 0.0f : to_float(bias[column]);
}

struct MmaProductShape {
  static constexpr int kWarps = 4, kThreads = 32 * kWarps, kRowTiles = 2, kRowsOfWarp = 16 * kRowTiles;
  static constexpr int kRows = kWarps * kRowsOfWarp, kChunks = kProductSlice / 8, kRowStep = kThreads / kChunks;
  static constexpr uint32_t kRowBytes = 2 * kProductSlice;
  static constexpr uint32_t kStageBytes = (kRows + kProductColumns) * kRowBytes;
  static constexpr int kSharedBytes = static_cast<int>(2 * kStageBytes);
};

// One slice of 64 of the sums, on the matrix units.
template <class Element>
__device__ __forceinline__ void multiply_slice(float (&sum)[MmaProductShape::kRowTiles][kProductColumns / 8][4],
                                               uint32_t rows, uint32_t weights) {
  using Shape = MmaProductShape;
  const Place left = place_by_columns(lane_of_warp()), right = place_by_rows(lane_of_warp());
  rows += swizzled<kProductSlice>(left.row, left.chunk);
  weights += swizzled<kProductSlice>(right.row, right.chunk);
#pragma unroll
  for (int step = 0; step < kProductSlice / 16; ++step) {
    uint32_t row[Shape::kRowTiles][4];
#pragma unroll
    for (int tile = 0; tile < Shape::kRowTiles; ++tile)
      load_matrices(row[tile], pairs_further(rows, step) + tile * 16 * Shape::kRowBytes);
#pragma unroll
    for (int pair = 0; pair < kProductColumns / 16; ++pair) {
      uint32_t weight[4];
      load_matrices(weight, pairs_further(weights, step) + pair * 16 * Shape::kRowBytes);
#pragma unroll
      for (int tile = 0; tile < Shape::kRowTiles; ++tile) {
        multiply_add<Element>(sum[tile][2 * pair], row[tile], weight[0], weight[1]);
        multiply_add<Element>(sum[tile][2 * pair + 1], row[tile], weight[2], weight[3]);
      }
    }
  }
}

// 16-bit elements on 16 bytes.
template <class Element, RowsOf kRowsOf>
__global__ void __launch_bounds__(MmaProductShape::kThreads, 2) mma_product(const __grid_constant__ ProductTask task) {
  using Shape = MmaProductShape;
  LAT_SHARED_MEMORY(shared);
  const uint32_t stages = shared_address(shared);
  const ProductBlock<kRowsOf> block(task);
  const int thread = static_cast<int>(threadIdx.x), chunk = thread % Shape::kChunks, own_row = thread / Shape::kChunks;
  const int warp = thread / 32, lane = thread % 32;
  const int64_t width = task.width;

  for (int32_t at = block.row_block; int64_t{Shape::kRows} * at < block.rows; at += task.row_blocks) {
    const int32_t first = Shape::kRows * at;
    const Element* rows[Shape::kRows / Shape::kRowStep];  // of this thread's copies; null beyond the last
#pragma unroll
    for (int i = 0; i < Shape::kRows / Shape::kRowStep; ++i) {
      const int32_t row = first + own_row + i * Shape::kRowStep;
      rows[i] =
          row < block.rows ? row_of<const Element>(task.from, block.batch, block.token(task, row), chunk * 8) : nullptr;
    }
    const Element* const weights = static_cast<const Element*>(task.weight[block.product]);
    const auto copy = [&](int64_t slice, uint32_t to) {
      const bool within = slice + chunk * 8 < width;
      to += swizzled<kProductSlice>(own_row, chunk);
#pragma unroll
      for (int i = 0; i < Shape::kRows / Shape::kRowStep; ++i) {
        const bool there = within && rows[i] != nullptr;
        copy_or_zero(to + i * Shape::kRowStep * Shape::kRowBytes, there ? rows[i] + slice : weights, there);
      }
      to += Shape::kRows * Shape::kRowBytes;
#pragma unroll
      for (int i = 0; i < kProductColumns / Shape::kRowStep; ++i) {
        const int64_t column = block.column + own_row + i * Shape::kRowStep;
        const bool there = within && column < width;
        copy_or_zero(to + i * Shape::kRowStep * Shape::kRowBytes,
                     weights + (there ? column * width + slice + chunk * 8 : 0), there);
      }
    };

    float sum[Shape::kRowTiles][kProductColumns / 8][4] = {};
    uint32_t stage = 0;
    copy(0, stages);
    end_copies();
    for (int64_t slice = 0; slice < width; slice += kProductSlice, stage ^= 1) {
      wait_for_copies();
      __syncthreads();  // this slice is here, and no warp reads the one before any more
      if (slice + kProductSlice < width) copy(slice + kProductSlice, stages + (stage ^ 1) * Shape::kStageBytes);
      end_copies();
      const uint32_t now = stages + stage * Shape::kStageBytes;
      multiply_slice<Element>(sum, now + warp * Shape::kRowsOfWarp * Shape::kRowBytes,
                              now + Shape::kRows * Shape::kRowBytes);
    }
#pragma unroll
    for (int tile = 0; tile < Shape::kRowTiles; ++tile)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int32_t row = first + warp * Shape::kRowsOfWarp + tile * 16 + sum_row(lane, 2 * half);
        if (row >= block.rows) continue;
#pragma unroll
        for (int i = 0; i < kProductColumns / 8; ++i) {
          const int64_t column = block.column + i * 8 + sum_column(lane, 0);
          if (column >= width) continue;
          *reinterpret_cast<uint32_t*>(row_of<Element>(task.to[block.product], block.batch, row, column)) =
              pack<Element>(sum[tile][i][2 * half] + bias_at<Element>(task, block.product, column),
                            sum[tile][i][2 * half + 1] + bias_at<Element>(task, block.product, column + 1));
        }
      }
    __syncthreads();  // the next rows' copies begin
  }
}

struct SimtProductShape {
  static constexpr int kThreads = 128, kRows = 64, kLanes = 8, kRowGroups = kThreads / kLanes;
  static constexpr int kOwnRows = kRows / kRowGroups, kOwnColumns = kProductColumns / kLanes;
  static constexpr int kStride = kProductSlice + 4, kSharedBytes = 0;
};

// float32, and what does not lie on 16 bytes. A thread owns rows ty + 16 i and columns tx + 8 j.
template <class Element, RowsOf kRowsOf>
__global__ void __launch_bounds__(SimtProductShape::kThreads) simt_product(const __grid_constant__ ProductTask task) {
  using Shape = SimtProductShape;
  __shared__ __align__(16) float rows[Shape::kRows * Shape::kStride], weights[kProductColumns * Shape::kStride];
  __shared__ int32_t tokens[Shape::kRows];  // below 0: none
  const ProductBlock<kRowsOf> block(task);
  const int thread = static_cast<int>(threadIdx.x), tx = thread % Shape::kLanes, ty = thread / Shape::kLanes;
  const Element* const weight = static_cast<const Element*>(task.weight[block.product]);
  const Element* const from = row_of<const Element>(task.from, block.batch, 0, 0);

  for (int32_t at = block.row_block; int64_t{Shape::kRows} * at < block.rows; at += task.row_blocks) {
    const int32_t first = Shape::kRows * at;
    if (thread < Shape::kRows) tokens[thread] = first + thread < block.rows ? block.token(task, first + thread) : -1;
    float sum[Shape::kOwnRows][Shape::kOwnColumns] = {};
    for (int64_t slice = 0; slice < task.width; slice += kProductSlice) {
      __syncthreads();
#pragma unroll 8
      for (int i = thread; i < Shape::kRows * kProductSlice; i += Shape::kThreads) {
        const int row = i / kProductSlice, place = i % kProductSlice;
        const bool within = slice + place < task.width;
        rows[row * Shape::kStride + place] =
            within && tokens[row] >= 0 ? to_float(from[tokens[row] * task.from.row_stride + slice + place]) : 0.0f;
        weights[row * Shape::kStride + place] =
            within && block.column + row < task.width
                ? to_float(weight[(block.column + row) * task.width + slice + place])
                : 0.0f;
      }
      __syncthreads();
#pragma unroll 2
      for (int k = 0; k < kProductSlice; k += 4) {
        float4 left[Shape::kOwnRows], right[Shape::kOwnColumns];
#pragma unroll
        for (int i = 0; i < Shape::kOwnRows; ++i)
          left[i] = *reinterpret_cast<const float4*>(rows + (ty + i * Shape::kRowGroups) * Shape::kStride + k);
#pragma unroll
        for (int j = 0; j < Shape::kOwnColumns; ++j)
          right[j] = *reinterpret_cast<const float4*>(weights + (tx + j * Shape::kLanes) * Shape::kStride + k);
#pragma unroll
        for (int i = 0; i < Shape::kOwnRows; ++i)
#pragma unroll
          for (int j = 0; j < Shape::kOwnColumns; ++j) {
            sum[i][j] = fmaf(left[i].x, right[j].x, sum[i][j]);
            sum[i][j] = fmaf(left[i].y, right[j].y, sum[i][j]);
            sum[i][j] = fmaf(left[i].z, right[j].z, sum[i][j]);
            sum[i][j] = fmaf(left[i].w, right[j].w, sum[i][j]);
          }
      }
    }
#pragma unroll
    for (int i = 0; i < Shape::kOwnRows; ++i) {
      const int32_t row = first + ty + i * Shape::kRowGroups;
#pragma unroll
      for (int j = 0; j < Shape::kOwnColumns; ++j) {
        const int64_t column = block.column + tx + j * Shape::kLanes;
        if (row < block.rows && column < task.width)
          *row_of<Element>(task.to[block.product], block.batch, row, column) =
              from_float<Element>(sum[i][j] + bias_at<Element>(task, block.product, column));
      }
    }
    __syncthreads();
  }
}

// `task.to` lies on 16 bytes: it is in the workspace.
template <class Element, RowsOf kRowsOf>
void launch_product(const char* step, ProductTask task, int64_t batch, cudaStream_t stream, lat_status& status) {
  task.column_blocks = static_cast<int32_t>((task.width + kProductColumns - 1) / kProductColumns);
  const auto run = [&](auto shape, void (*kernel)(ProductTask)) {
    using Shape = decltype(shape);
    task.row_blocks = row_blocks<kRowsOf>(task.tokens, Shape::kRows);
    launch_all(step, kernel, task, batch * task.products * task.column_blocks * task.row_blocks, Shape::kThreads,
               Shape::kSharedBytes, stream, status);
  };
  if constexpr (sizeof(Element) == 2) {
    bool aligned = lies_on_16_bytes(task.from, 2);
    for (int at = 0; at < task.products; ++at)
      aligned = aligned && reinterpret_cast<uintptr_t>(task.weight[at]) % 16 == 0;
    if (aligned) return run(MmaProductShape{}, mma_product<Element, kRowsOf>);
  }
  run(SimtProductShape{}, simt_product<Element, kRowsOf>);
}

}  // namespace lat
