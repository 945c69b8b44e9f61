// Hash codes of queries and keys on the device: products of rows with the projection of their head, 64 columns at a
// time, whose signs are packed to words (common/sign_bits.h) and cut into codes. 16-bit elements run on the matrix
// units wherever their rows lie, float32 as fused multiply-adds over D in order; queries and keys by the same code.
#pragma once

#include "common/cuda_async_copy.cuh"
#include "common/cuda_attention.cuh"
#include "common/cuda_launch.cuh"
#include "common/mma_layout.h"
#include "common/sign_bits.h"

namespace lat {

constexpr uint16_t kNoCode = 0xffff;  // of a key that is padding

struct CodeTask {
  static constexpr int kQueries = 0, kKeys = 1;
  lat_rows rows[2];        // queries, keys
  uint16_t* codes[2];      // [B, H, R] lists of `stride`
  const void* projection;  // [H, D, R * T]
  const int32_t* attention_mask;
  int64_t first_block, stride;
  int32_t tokens, num_heads, num_hash, code_length;
  int32_t row_blocks;
  bool rows_aligned[2], projection_aligned;  // every chunk of 8 numbers lies on 16 bytes
};

// What a block of threads works on: kRows rows of one side of a head.
struct CodeBlock {
  int32_t batch, head, side, first, columns;

  __device__ __forceinline__ CodeBlock(const CodeTask& task, int rows) {
    int64_t block = task.first_block + blockIdx.x;
    first = static_cast<int32_t>(block % task.row_blocks) * rows;
    block /= task.row_blocks;
    side = static_cast<int32_t>(block % 2);
    block /= 2;
    head = static_cast<int32_t>(block % task.num_heads);
    batch = static_cast<int32_t>(block / task.num_heads);
    columns = task.num_hash * task.code_length;
  }
};

// Codes of the rows whose signs are in `words`, a thread a row.
template <int kRows, int kThreads>
__device__ __forceinline__ void write_codes(const CodeTask& task, const CodeBlock& block, const uint32_t* words) {
  const int row = static_cast<int>(threadIdx.x) % kRows;
  if (row >= task.tokens - block.first) return;
  const int64_t token = block.first + row;
  const bool padding =
      block.side == CodeTask::kKeys && task.attention_mask[block.batch * int64_t{task.tokens} + token] == LAT_PADDING;
  const uint32_t* const own = words + row * sign_stride(block.columns);
  uint16_t* const to = task.codes[block.side] +
                       (block.batch * int64_t{task.num_heads} + block.head) * task.num_hash * task.stride + token;
  for (int hash = static_cast<int>(threadIdx.x) / kRows; hash < task.num_hash; hash += kThreads / kRows)
    to[hash * task.stride] = padding ? kNoCode : static_cast<uint16_t>(code_of(own, hash, task.code_length));
}

template <int kHeadSize>
struct MmaCodesShape {
  // 32 rows a warp read the projection from shared memory half as often as 16 would.
  static constexpr int kRowTiles = kHeadSize == 128 ? 1 : 2;
  static constexpr int kWarps = 4, kThreads = 32 * kWarps, kRowsOfWarp = 16 * kRowTiles, kRows = kWarps * kRowsOfWarp;
  static constexpr int kSteps = kHeadSize / 16;
  static constexpr int kRowChunks = kHeadSize / 8, kStageChunks = kSignColumns / 8;
  static constexpr uint32_t kRowBytes = 2 * kHeadSize, kStageRowBytes = 2 * kSignColumns;
  static constexpr uint32_t kRowsBytes = kRows * kRowBytes, kStageBytes = kHeadSize * kStageRowBytes;
  static int shared_bytes(int columns) {
    return static_cast<int>(kRowsBytes + 2 * kStageBytes) + kRows * sign_stride(columns) * 4;
  }
};

// 8 numbers to 16 bytes of shared memory; zeros for those from `count` on. What is not aligned is read one by one;
// what is has all 8 or none.
template <class Element>
__device__ __forceinline__ void copy_chunk(unsigned char* shared, uint32_t offset, const Element* from, int64_t count,
                                           bool aligned, const void* sound) {
  if (aligned) {
    copy_or_zero(shared_address(shared) + offset, count > 0 ? from : sound, count > 0);
    return;
  }
  uint32_t words[4] = {0, 0, 0, 0};
#pragma unroll
  for (int i = 0; i < 8; ++i)
    if (i < count) words[i / 2] |= uint32_t{reinterpret_cast<const uint16_t*>(from)[i]} << 16 * (i % 2);
  *reinterpret_cast<uint4*>(shared + offset) = make_uint4(words[0], words[1], words[2], words[3]);
}

template <class Element, int kHeadSize>
__global__ void __launch_bounds__(MmaCodesShape<kHeadSize>::kThreads, 4)
    mma_codes(const __grid_constant__ CodeTask task) {
  using Shape = MmaCodesShape<kHeadSize>;
  LAT_SHARED_MEMORY(shared);
  unsigned char* const stages = shared + Shape::kRowsBytes;
  uint32_t* const words = reinterpret_cast<uint32_t*>(stages + 2 * Shape::kStageBytes);
  const CodeBlock block(task, Shape::kRows);
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  const int columns = block.columns, chunks = sign_chunks(columns), stride = sign_stride(columns);
  const Element* const projection =
      static_cast<const Element*>(task.projection) + int64_t{block.head} * kHeadSize * columns;

  const lat_rows& from = task.rows[block.side];
#pragma unroll 4
  for (int at = thread; at < Shape::kRows * Shape::kRowChunks; at += Shape::kThreads) {
    const int row = at / Shape::kRowChunks, chunk = at % Shape::kRowChunks;
    const bool there = row < task.tokens - block.first;
    copy_chunk(shared, swizzled<kHeadSize>(row, chunk),
               row_of<const Element>(from, block.batch, there ? block.first + row : block.first,
                                     int64_t{block.head} * kHeadSize + chunk * 8),
               there ? 8 : 0, task.rows_aligned[block.side], from.data);
  }
  const auto copy = [&](int chunk_of_columns, unsigned char* to) {
    const int column = chunk_of_columns * kSignColumns;
#pragma unroll 4
    for (int at = thread; at < kHeadSize * Shape::kStageChunks; at += Shape::kThreads) {
      const int row = at / Shape::kStageChunks, chunk = at % Shape::kStageChunks;
      copy_chunk(to, swizzled<kSignColumns>(row, chunk), projection + row * columns + column + chunk * 8,
                 columns - column - chunk * 8, task.projection_aligned, task.projection);
    }
  };
  copy(0, stages);
  end_copies();
  wait_for_copies();
  __syncthreads();

  uint32_t rows[Shape::kRowTiles][Shape::kSteps][4];
  const Place place = place_by_columns(lane);
  const uint32_t own_rows = shared_address(shared) + warp * Shape::kRowsOfWarp * Shape::kRowBytes +
                            swizzled<kHeadSize>(place.row, place.chunk);
#pragma unroll
  for (int tile = 0; tile < Shape::kRowTiles; ++tile)
#pragma unroll
    for (int step = 0; step < Shape::kSteps; ++step)
      load_matrices(rows[tile][step], pairs_further(own_rows, step) + tile * 16 * Shape::kRowBytes);

  for (int chunk = 0; chunk < chunks; ++chunk) {
    wait_for_copies();
    __syncthreads();  // this chunk is here, and no warp reads the one before any more
    if (chunk + 1 < chunks) copy(chunk + 1, stages + (chunk + 1) % 2 * Shape::kStageBytes);
    end_copies();
    const uint32_t stage =
        shared_address(stages) + chunk % 2 * Shape::kStageBytes + swizzled<kSignColumns>(place.row, place.chunk);
    // A word at a time: the sums of 64 columns would leave registers for fewer blocks.
#pragma unroll
    for (int word = 0; word < kSignWords; ++word) {
      float sum[Shape::kRowTiles][4][4] = {};
#pragma unroll
      for (int step = 0; step < Shape::kSteps; ++step)
#pragma unroll
        for (int pair = 0; pair < 2; ++pair) {
          uint32_t weight[4];
          load_matrices_transposed(weight, pairs_further(stage, 2 * word + pair) + step * 16 * Shape::kStageRowBytes);
#pragma unroll
          for (int tile = 0; tile < Shape::kRowTiles; ++tile) {
            multiply_add<Element>(sum[tile][2 * pair], rows[tile][step], weight[0], weight[1]);
            multiply_add<Element>(sum[tile][2 * pair + 1], rows[tile][step], weight[2], weight[3]);
          }
        }
#pragma unroll
      for (int tile = 0; tile < Shape::kRowTiles; ++tile)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          uint32_t bits = 0;
#pragma unroll
          for (int at = 0; at < 4; ++at)
            bits |= signs_of_lane(0, at, sum[tile][at][2 * half] > 0.0f, sum[tile][at][2 * half + 1] > 0.0f);
          bits <<= lane % 4 * 2;
          bits |= __shfl_xor_sync(0xffffffff, bits, 1);
          bits |= __shfl_xor_sync(0xffffffff, bits, 2);
          const int row = warp * Shape::kRowsOfWarp + 16 * tile + sum_row(lane, 2 * half);
          if (lane % 4 == 0) words[row * stride + kSignWords * chunk + word] = bits;
        }
    }
  }
  __syncthreads();
  write_codes<Shape::kRows, Shape::kThreads>(task, block, words);
}

template <int kHeadSize>
struct SimtCodesShape {
  static constexpr int kThreads = 128, kRows = 64, kLanes = 8, kRowGroups = kThreads / kLanes;
  static constexpr int kOwnRows = kRows / kRowGroups, kOwnColumns = kSignColumns / kLanes;
  // 16 bytes more, so that rows begin in different banks.
  static constexpr int kStride = kHeadSize + 4;
  static int shared_bytes(int columns) {
    return (kRows * kStride + kHeadSize * kSignColumns + kRows * sign_stride(columns)) * 4;
  }
  // Where a column of the projection lies: of the 8 columns of a lane the first 4 of all lanes come first.
  __device__ static __forceinline__ int place(int column) { return column % 8 / 4 * 32 + column / 8 * 4 + column % 4; }
};

// float32. A thread owns rows ty + 16 i and columns 8 tx to 8 tx + 7, which is a byte of signs.
template <int kHeadSize>
__global__ void __launch_bounds__(SimtCodesShape<kHeadSize>::kThreads, 2)
    simt_codes(const __grid_constant__ CodeTask task) {
  using Shape = SimtCodesShape<kHeadSize>;
  LAT_SHARED_MEMORY(shared);
  float* const rows = reinterpret_cast<float*>(shared);
  float* const weights = rows + Shape::kRows * Shape::kStride;
  uint32_t* const words = reinterpret_cast<uint32_t*>(weights + kHeadSize * kSignColumns);
  const CodeBlock block(task, Shape::kRows);
  const int thread = static_cast<int>(threadIdx.x), tx = thread % Shape::kLanes, ty = thread / Shape::kLanes;
  const int columns = block.columns, stride = sign_stride(columns);
  const float* const projection =
      static_cast<const float*>(task.projection) + int64_t{block.head} * kHeadSize * columns;

  const lat_rows& all = task.rows[block.side];
  const float* const from = row_of<const float>(all, block.batch, block.first, int64_t{block.head} * kHeadSize);
#pragma unroll 8
  for (int at = thread; at < Shape::kRows * kHeadSize; at += Shape::kThreads) {
    const int row = at / kHeadSize, column = at % kHeadSize;
    rows[row * Shape::kStride + column] = row < task.tokens - block.first ? from[row * all.row_stride + column] : 0.0f;
  }
  for (int chunk = 0; chunk < sign_chunks(columns); ++chunk) {
    const int first = chunk * kSignColumns;
    __syncthreads();  // no thread reads the chunk before any more
#pragma unroll 8
    for (int at = thread; at < kHeadSize * kSignColumns; at += Shape::kThreads) {
      const int row = at / kSignColumns, column = at % kSignColumns;
      weights[row * kSignColumns + Shape::place(column)] =
          first + column < columns ? projection[row * columns + first + column] : 0.0f;
    }
    __syncthreads();
    float sum[Shape::kOwnRows][Shape::kOwnColumns] = {};
#pragma unroll 4
    for (int k = 0; k < kHeadSize; k += 4) {
      float left[Shape::kOwnRows][4];
#pragma unroll
      for (int i = 0; i < Shape::kOwnRows; ++i)
        *reinterpret_cast<float4*>(left[i]) =
            *reinterpret_cast<const float4*>(rows + (ty + i * Shape::kRowGroups) * Shape::kStride + k);
#pragma unroll
      for (int next = 0; next < 4; ++next) {
        float right[Shape::kOwnColumns];
#pragma unroll
        for (int half = 0; half < 2; ++half)
          *reinterpret_cast<float4*>(right + 4 * half) =
              *reinterpret_cast<const float4*>(weights + (k + next) * kSignColumns + 32 * half + 4 * tx);
#pragma unroll
        for (int i = 0; i < Shape::kOwnRows; ++i)
#pragma unroll
          for (int j = 0; j < Shape::kOwnColumns; ++j) sum[i][j] = fmaf(left[i][next], right[j], sum[i][j]);
      }
    }
#pragma unroll
    for (int i = 0; i < Shape::kOwnRows; ++i) {
      uint32_t bits = 0;
#pragma unroll
      for (int j = 0; j < Shape::kOwnColumns; ++j) bits |= static_cast<uint32_t>(sum[i][j] > 0.0f) << j;
      // Bytes of a word from the lowest on.
      reinterpret_cast<unsigned char*>(words + (ty + i * Shape::kRowGroups) * stride)[chunk * Shape::kLanes + tx] =
          static_cast<unsigned char>(bits);
    }
  }
  __syncthreads();
  write_codes<Shape::kRows, Shape::kThreads>(task, block, words);
}

template <class Element, int kHeadSize>
void launch_codes(CodeTask task, int64_t batch, cudaStream_t stream, lat_status& status) {
  const auto run = [&](auto shape, void (*kernel)(CodeTask)) {
    using Shape = decltype(shape);
    task.row_blocks = (task.tokens - 1) / Shape::kRows + 1;
    launch_all("hash codes", kernel, task, batch * task.num_heads * 2 * task.row_blocks, Shape::kThreads,
               Shape::shared_bytes(task.num_hash * task.code_length), stream, status);
  };
  if constexpr (sizeof(Element) == 2) {
    for (int side = 0; side < 2; ++side) task.rows_aligned[side] = lies_on_16_bytes(task.rows[side], 2);
    task.projection_aligned =
        reinterpret_cast<uintptr_t>(task.projection) % 16 == 0 && task.num_hash * task.code_length % 8 == 0;
    run(MmaCodesShape<kHeadSize>{}, mma_codes<Element, kHeadSize>);
  } else {
    run(SimtCodesShape<kHeadSize>{}, simt_codes<kHeadSize>);
  }
}

}  // namespace lat
