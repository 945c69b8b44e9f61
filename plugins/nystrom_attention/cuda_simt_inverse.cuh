// The pseudo-inverse by fused multiply-adds in float32: left operands in the workspace, which stays in the cache, the
// right operand of each product in shared memory.
#pragma once

#include "nystrom_attention/cuda_inverse.cuh"

namespace lat {

template <int kPadded>
struct SimtInverseShape {
  static constexpr int kThreads = 256, kLanes = 16, kRowGroups = kThreads / kLanes, kOwnRows = kPadded / kRowGroups;
  LAT_HOST_DEVICE static constexpr int stride(int columns) { return columns + 4; }  // rows begin in different banks
  LAT_HOST_DEVICE static constexpr int runs(int columns) { return columns <= 64 ? 1 : columns / 64; }
  LAT_HOST_DEVICE static constexpr int right_bytes(int head_size) {
    return 4 * kPadded * stride(head_size > kPadded ? head_size : kPadded);
  }
  static int shared_bytes(int head_size, int segments) { return right_bytes(head_size) + 4 * kPadded * segments; }
};

// A thread has rows ty + 16 i and columns 4 tx + 64 j and the next three, tx = thread % 16, of a matrix of kColumns.
template <int kPadded, int kColumns>
class SimtProduct {
 public:
  using Shape = SimtInverseShape<kPadded>;
  static constexpr int kRuns = Shape::runs(kColumns), kOwnRows = Shape::kOwnRows, kStride = Shape::stride(kColumns);

  // = left right; `left` is [kPadded, kPadded] in memory, `right` [kPadded, kColumns] in shared memory.
  __device__ __forceinline__ void set(const float* left, const float* right) {
    const int tx = thread_of_block() % Shape::kLanes, column = 4 * tx < kColumns ? 4 * tx : 0;
#pragma unroll
    for (int i = 0; i < kOwnRows; ++i)
#pragma unroll
      for (int at = 0; at < 4 * kRuns; ++at) sum_[i][at] = 0.0f;
#pragma unroll 2
    for (int k = 0; k < kPadded; k += 4) {
      float own[kOwnRows][4];
#pragma unroll
      for (int i = 0; i < kOwnRows; ++i)
        *reinterpret_cast<float4*>(own[i]) = *reinterpret_cast<const float4*>(left + row(i) * kPadded + k);
#pragma unroll
      for (int at = 0; at < 4; ++at)
#pragma unroll
        for (int run = 0; run < kRuns; ++run) {
          const float4 four = *reinterpret_cast<const float4*>(right + (k + at) * kStride + column + 64 * run);
#pragma unroll
          for (int i = 0; i < kOwnRows; ++i) {
            sum_[i][4 * run] = fmaf(own[i][at], four.x, sum_[i][4 * run]);
            sum_[i][4 * run + 1] = fmaf(own[i][at], four.y, sum_[i][4 * run + 1]);
            sum_[i][4 * run + 2] = fmaf(own[i][at], four.z, sum_[i][4 * run + 2]);
            sum_[i][4 * run + 3] = fmaf(own[i][at], four.w, sum_[i][4 * run + 3]);
          }
        }
    }
  }

  // number(row, column, i): what becomes of each number of this thread.
  template <class Number>
  __device__ __forceinline__ void each(Number number) {
    const int tx = thread_of_block() % Shape::kLanes;
    if (4 * tx >= kColumns) return;
#pragma unroll
    for (int i = 0; i < kOwnRows; ++i)
#pragma unroll
      for (int at = 0; at < 4 * kRuns; ++at) number(row(i), 4 * tx + at / 4 * 64 + at % 4, sum_[i][at]);
  }

 private:
  __device__ static __forceinline__ int row(int i) { return thread_of_block() / Shape::kLanes + i * Shape::kRowGroups; }

  float sum_[kOwnRows][4 * kRuns];
};

template <int kPadded, int kHeadSize>
__global__ void __launch_bounds__(SimtInverseShape<kPadded>::kThreads, 1)
    simt_invert(const __grid_constant__ NystromTask task) {
  using Shape = SimtInverseShape<kPadded>;
  constexpr int kStride = Shape::stride(kPadded), kOwn = kPadded * kHeadSize / 4;
  LAT_SHARED_MEMORY(shared);
  __shared__ float of_warps[Shape::kThreads / 32];
  float* const right = reinterpret_cast<float*>(shared);
  float* const factors = reinterpret_cast<float*>(shared + Shape::right_bytes(kHeadSize));
  const int64_t head = task.first_block + blockIdx.x;
  const float* const kernel_2 = task.kernel_2 + head * kPadded * kPadded;
  float* const inverse = task.scratch + head * 2 * kPadded * kPadded;
  float* const product = inverse + kPadded * kPadded;

  find_join_factors(task, head, factors);
  const float largest = largest_column<Shape::kThreads>(task, head, of_warps);
  SimtProduct<kPadded, kPadded> sum;
  const auto put = [&](float identity) {
    __syncthreads();  // all have read the right operand before
    sum.each([&](int row, int column, float number) {
      right[row * kStride + column] = (row == column ? identity : 0.0f) - number;
    });
    __syncthreads();
  };
  sum.each([&](int row, int column, float) {
    const float number = kernel_2[column * kPadded + row] / largest;
    right[row * kStride + column] = inverse[row * kPadded + column] = number;
  });
  __syncthreads();
#pragma unroll 1
  for (int i = 0; i < kPinvIterations; ++i) {
    sum.set(kernel_2, right);
    sum.each([&](int row, int column, float number) { product[row * kPadded + column] = number; });
#pragma unroll 1
    for (int k = 0; k < 2; ++k) {
      put(k == 0 ? 7.0f : 15.0f);
      sum.set(product, right);
    }
    put(13.0f);
    sum.set(inverse, right);
    __syncthreads();
    sum.each([&](int row, int column, float number) {
      right[row * kStride + column] = inverse[row * kPadded + column] = 0.25f * number;
    });
    __syncthreads();
  }
  for (int at = thread_of_block(); at < kOwn; at += Shape::kThreads) {
    const int row = 4 * at / kHeadSize, column = 4 * at % kHeadSize;
    *reinterpret_cast<float4*>(right + row * Shape::stride(kHeadSize) + column) =
        joined<kHeadSize>(task, head, factors, row, column);
  }
  __syncthreads();
  SimtProduct<kPadded, kHeadSize> summary;
  summary.set(inverse, right);
  summary.each([&](int row, int column, float number) {
    if (row < task.landmarks)
      static_cast<float*>(task.summary)[(head * task.landmarks + row) * kHeadSize + column] = number;
  });
}

template <int kHeadSize>
void launch_simt_invert(NystromTask task, cudaStream_t stream, lat_status& status) {
  with_padded(task, [&](auto padded) {
    using Shape = SimtInverseShape<decltype(padded)::value>;
    task.blocks = task.heads;
    launch_all("inverse", simt_invert<padded.value, kHeadSize>, task, task.blocks, Shape::kThreads,
               Shape::shared_bytes(kHeadSize, task.segments), stream, status);
  });
}

}  // namespace lat
