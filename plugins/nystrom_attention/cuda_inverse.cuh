// Pass 3 of lat::NystromAttention on the device: a block of threads a head joins the parts of kernel_3 x values, and
// finds the pseudo-inverse Z of kernel_2 (A) on chip by the iteration of the paper (equation 11),
//
//     Z <- 0.25 Z (13 I - A Z (15 I - A Z (7 I - A Z))),
//
// and the summary, Z times that. Matrices are P x P, P = 64 or 128, with zeros from row and column L on, which stay
// zeros. Here is what its two forms share: cuda_mma_inverse.cuh and cuda_simt_inverse.cuh.
#pragma once

#include <type_traits>

#include "common/cuda_launch.cuh"
#include "nystrom_attention/cuda_task.cuh"

namespace lat {

constexpr int kPinvIterations = 6;  // PINV_ITERATIONS of the contract

// By how much the part of each segment counts, to factors [L][segments]; `kThreads` is at least L.
__device__ __forceinline__ void find_join_factors(const NystromTask& task, int64_t head, float* factors) {
  const int row = static_cast<int>(threadIdx.x);
  if (row >= task.landmarks) return;
  const int64_t first = head * task.segments * task.landmarks + row;
  float* const own = factors + row * task.segments;
  float largest = -INFINITY;
#pragma unroll 8
  for (int segment = 0; segment < task.segments; ++segment) {
    own[segment] = task.part_largest[first + int64_t{segment} * task.landmarks];
    largest = fmaxf(largest, own[segment]);
  }
  float sum = 0.0f;
#pragma unroll 8
  for (int segment = 0; segment < task.segments; ++segment) {
    // A segment without a key left -inf, and no part.
    own[segment] = own[segment] == -INFINITY ? 0.0f : exp2f(own[segment] - largest);
    sum = fmaf(own[segment], task.part_sum[first + int64_t{segment} * task.landmarks], sum);
  }
  for (int segment = 0; segment < task.segments; ++segment) own[segment] /= sum;
}

// Four numbers of a row of kernel_3 x values; zeros beyond the last landmark.
template <int kHeadSize>
__device__ __forceinline__ float4 joined(const NystromTask& task, int64_t head, const float* factors, int row,
                                         int column) {
  float4 sum = {0.0f, 0.0f, 0.0f, 0.0f};
  if (row >= task.landmarks) return sum;
  const float* part = task.parts + (head * task.segments * task.landmarks + row) * kHeadSize + column;
#pragma unroll 4
  for (int segment = 0; segment < task.segments; ++segment, part += int64_t{task.landmarks} * kHeadSize) {
    const float factor = factors[row * task.segments + segment];
    if (factor == 0.0f) continue;
    const float4 own = *reinterpret_cast<const float4*>(part);
    sum.x = fmaf(factor, own.x, sum.x);
    sum.y = fmaf(factor, own.y, sum.y);
    sum.z = fmaf(factor, own.z, sum.z);
    sum.w = fmaf(factor, own.w, sum.w);
  }
  return sum;
}

// The column sum that Z starts from.
template <int kThreads>
__device__ __forceinline__ float largest_column(const NystromTask& task, int64_t head, float* shared) {
  if (task.per_head_init) return task.largest[head];
  float largest = 0.0f;
#pragma unroll 4
  for (int64_t at = threadIdx.x; at < task.heads; at += kThreads) largest = fmaxf(largest, task.largest[at]);
  return largest_of_block<kThreads>(largest, shared);
}

// `run` gets P as an std::integral_constant.
template <class Run>
void with_padded(const NystromTask& task, Run run) {
  if (task.panels == 1) return run(std::integral_constant<int, kLandmarkRows>());
  run(std::integral_constant<int, kMostLandmarks>());
}

}  // namespace lat
