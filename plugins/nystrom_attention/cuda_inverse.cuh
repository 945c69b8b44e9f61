// Pass 3 of lat::NystromAttention on the device: a block of threads a head joins the parts of kernel_3 x values, and
// finds the pseudo-inverse Z of kernel_2 (A) on chip by the iteration of the paper (equation 11),
//
//     Z <- 0.25 Z (13 I - A Z (15 I - A Z (7 I - A Z))),
//
// and the summary, Z times that. Matrices are P x P, P = 64 or 128, with zeros from row and column L on, which stay
// zeros. The right operand of each product lies in shared memory.
//   mma_invert   a warp has 16 rows: Z and A Z as left operands stay in its registers. Numbers are two float16, 22
//   bits,
//                of which three products on the matrix units are added up in float32.
//   simt_invert  fused multiply-adds in float32; left operands in the workspace, which stays in the cache.
#pragma once

#include <type_traits>

#include "common/cuda_launch.cuh"
#include "common/mma_layout.h"
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

// 2^i such that `largest` times it lies between 2^to and 2^(to + 1); 1 for 0.
__device__ __forceinline__ float scale_to(float largest, int to) {
  if (!(largest > 0.0f)) return 1.0f;
  int exponent;
  frexpf(largest, &exponent);
  exponent = to + 1 - exponent;
  return ldexpf(1.0f, exponent > 120 ? 120 : exponent < -120 ? -120 : exponent);
}

// Two numbers, each the sum of two float16: `high` has 11 bits of each, `low` the next 11.
struct SplitPair {
  uint32_t high, low;

  __device__ __forceinline__ SplitPair(float first, float second) {
    const float of_first = __half2float(__float2half_rn(first)), of_second = __half2float(__float2half_rn(second));
    high = pack<__half>(of_first, of_second);
    low = pack<__half>(first - of_first, second - of_second);
  }
};

// Rows of a warp as left operands of kSteps * 16 columns, in its registers.
template <int kSteps>
class SplitRows {
 public:
  __device__ __forceinline__ explicit SplitRows(float*) {}

  __device__ __forceinline__ void get(int step, uint32_t (&high)[4], uint32_t (&low)[4]) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) high[i] = high_[step][i], low[i] = low_[step][i];
  }
  __device__ __forceinline__ void put(int step, const uint32_t (&high)[4], const uint32_t (&low)[4]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) high_[step][i] = high[i], low_[step][i] = low[i];
  }

 private:
  uint32_t high_[kSteps][4], low_[kSteps][4];
};

// The same in memory, where registers are too few: 16 bytes a lane side by side. Each lane reads what it wrote.
template <int kSteps>
class KeptSplitRows {
 public:
  // `kept` has 1024 * kSteps bytes for each warp.
  __device__ __forceinline__ explicit KeptSplitRows(float* kept)
      : own_(reinterpret_cast<uint4*>(kept) + thread_of_block() / 32 * kSteps * 64 + lane_of_warp()) {}

  __device__ __forceinline__ void get(int step, uint32_t (&high)[4], uint32_t (&low)[4]) const {
    const uint4 first = own_[64 * step], second = own_[64 * step + 32];
    high[0] = first.x, high[1] = first.y, high[2] = first.z, high[3] = first.w;
    low[0] = second.x, low[1] = second.y, low[2] = second.z, low[3] = second.w;
  }
  __device__ __forceinline__ void put(int step, const uint32_t (&high)[4], const uint32_t (&low)[4]) {
    own_[64 * step] = {high[0], high[1], high[2], high[3]};
    own_[64 * step + 32] = {low[0], low[1], low[2], low[3]};
  }

 private:
  uint4* own_;
};

// Sums of 16 x 8 as mma.sync leaves them become left operands.
template <int kSteps, class Rows>
__device__ __forceinline__ void put_sums(Rows& rows, const float (&sum)[2 * kSteps][4], float factor) {
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    uint32_t high[4], low[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float* const from = sum[2 * step + i / 2] + 2 * (i % 2);
      const SplitPair pair(from[0] * factor, from[1] * factor);
      high[i] = pair.high;
      low[i] = pair.low;
    }
    rows.put(step, high, low);
  }
}

// sum[16 x kColumns] = left[16 x 16 kSteps] right, whose rows lie swizzled at `right`, and their low halves behind
// them. `left(step, high, low)` gives the left operand.
template <int kSteps, int kColumns, class Left>
__device__ __forceinline__ void multiply_split(float (&sum)[kColumns / 8][4], uint32_t right, Left left) {
  constexpr uint32_t kRowBytes = 2 * kColumns, kBytes = 16 * kSteps * kRowBytes;
  const Place place = place_by_columns(lane_of_warp());
  right += swizzled<kColumns>(place.row, place.chunk);
#pragma unroll
  for (int column = 0; column < kColumns / 8; ++column)
#pragma unroll
    for (int i = 0; i < 4; ++i) sum[column][i] = 0.0f;
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    uint32_t high[4], low[4];
    left(step, high, low);
#pragma unroll
    for (int pair = 0; pair < kColumns / 16; ++pair) {
      uint32_t right_high[4], right_low[4];
      const uint32_t at = pairs_further(right, pair) + step * 16 * kRowBytes;
      load_matrices_transposed(right_high, at);
      load_matrices_transposed(right_low, at + kBytes);
      multiply_add<__half>(sum[2 * pair], low, right_high[0], right_high[1]);
      multiply_add<__half>(sum[2 * pair + 1], low, right_high[2], right_high[3]);
      multiply_add<__half>(sum[2 * pair], high, right_low[0], right_low[1]);
      multiply_add<__half>(sum[2 * pair + 1], high, right_low[2], right_low[3]);
      multiply_add<__half>(sum[2 * pair], high, right_high[0], right_high[1]);
      multiply_add<__half>(sum[2 * pair + 1], high, right_high[2], right_high[3]);
    }
  }
}

// Numbers of the iteration are at most 15 and mostly below 1: times this they keep all 22 bits in float16.
constexpr float kSplitScale = 256.0f;

template <int kPadded>
struct MmaInverseShape {
  static constexpr int kWarps = kPadded / 16, kThreads = 32 * kWarps, kSteps = kPadded / 16;
  // Both halves of a right operand. With two of them a product needs one barrier, with one two.
  static constexpr uint32_t kMatrixBytes = 4 * kPadded * kPadded;
  static constexpr int kMatrices = kPadded == 64 ? 2 : 1;
  static constexpr int kRightBytes = static_cast<int>(kMatrices * kMatrixBytes);
  static int shared_bytes(int segments) { return kRightBytes + 4 * kPadded * segments; }
};

// The iteration, for a block of threads.
template <int kPadded>
class MmaInverse {
 public:
  using Shape = MmaInverseShape<kPadded>;
  static constexpr int kSteps = Shape::kSteps, kColumns = kPadded / 8;

  // Z with two sums of 16 x 128 and A Z would not fit registers.
  using Inverse = std::conditional_t<kPadded == 64, SplitRows<kSteps>, KeptSplitRows<kSteps>>;

  // `kept`: P x P floats.
  __device__ __forceinline__ MmaInverse(const float* kernel_2, unsigned char* shared, float* kept)
      : kernel_2_(kernel_2),
        shared_(shared),
        own_row_(thread_of_block() / 32 * 16),
        inverse_(kept),
        product_(nullptr) {}

  // The warp's rows of Z, times kSplitScale. Other warps may still read shared memory.
  __device__ __forceinline__ const Inverse& find(float largest) {
    start(largest);
    constexpr float kBack = 1.0f / kSplitScale;  // of sums of two scaled factors
    float sum[kColumns][4];
#pragma unroll 1
    for (int i = 0; i < kPinvIterations; ++i) {
      put_inverse();
      multiply_split<kSteps, kPadded>(
          sum, right(), [&](int step, uint32_t(&high)[4], uint32_t(&low)[4]) { read_kernel_2(step, high, low); });
      put_sums<kSteps>(product_, sum, kBack);
#pragma unroll 1
      for (int k = 0; k < 2; ++k) {
        put(k == 0 ? 7.0f : 15.0f, sum);
        multiply_split<kSteps, kPadded>(sum, right(), of(product_));
      }
      put(13.0f, sum);
      multiply_split<kSteps, kPadded>(sum, right(), of(inverse_));
      put_sums<kSteps>(inverse_, sum, 0.25f * kBack);
    }
    return inverse_;
  }

  template <class Rows>
  __device__ static __forceinline__ auto of(const Rows& rows) {
    return [&rows](int step, uint32_t(&high)[4], uint32_t(&low)[4]) { rows.get(step, high, low); };
  }

 private:
  __device__ __forceinline__ uint32_t right() const { return shared_address(shared_) + at_ * Shape::kMatrixBytes; }

  // Register i of a left operand: rows and columns 8 further.
  __device__ __forceinline__ int row_of_register(int i) const {
    return own_row_ + sum_row(lane_of_warp(), 0) + 8 * (i % 2);
  }
  __device__ __forceinline__ int column_of_register(int step, int i) const {
    return 16 * step + 8 * (i / 2) + sum_column(lane_of_warp(), 0);
  }

  // Z = A^T / largest.
  __device__ __forceinline__ void start(float largest) {
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      uint32_t high[4], low[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float* const from = kernel_2_ + column_of_register(step, i) * kPadded + row_of_register(i);
        const SplitPair pair(from[0] / largest * kSplitScale, from[kPadded] / largest * kSplitScale);
        high[i] = pair.high;
        low[i] = pair.low;
      }
      inverse_.put(step, high, low);
    }
  }

  // A is read again each time: it stays in the cache, and registers are few.
  __device__ __forceinline__ void read_kernel_2(int step, uint32_t (&high)[4], uint32_t (&low)[4]) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 two =
          *reinterpret_cast<const float2*>(kernel_2_ + row_of_register(i) * kPadded + column_of_register(step, i));
      const SplitPair pair(two.x * kSplitScale, two.y * kSplitScale);
      high[i] = pair.high;
      low[i] = pair.low;
    }
  }

  // A new right operand comes: where another one is still read, or when all have read it.
  __device__ __forceinline__ void begin_put() {
    if (Shape::kMatrices == 2)
      at_ ^= 1;
    else
      __syncthreads();
  }

  __device__ __forceinline__ void put_pair(int row, int chunk, uint32_t high, uint32_t low) const {
    unsigned char* const to =
        shared_ + at_ * Shape::kMatrixBytes + swizzled<kPadded>(row, chunk) + 2 * sum_column(lane_of_warp(), 0);
    *reinterpret_cast<uint32_t*>(to) = high;
    *reinterpret_cast<uint32_t*>(to + Shape::kMatrixBytes / 2) = low;
  }

  __device__ __forceinline__ void put_inverse() {
    begin_put();
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      uint32_t high[4], low[4];
      inverse_.get(step, high, low);
#pragma unroll
      for (int i = 0; i < 4; ++i) put_pair(row_of_register(i), 2 * step + i / 2, high[i], low[i]);
    }
    __syncthreads();
  }

  // factor * I - the product whose sums these are.
  __device__ __forceinline__ void put(float factor, const float (&sum)[kColumns][4]) {
    begin_put();
#pragma unroll
    for (int column = 0; column < kColumns; ++column)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = row_of_register(half), first = 8 * column + sum_column(lane_of_warp(), 0);
        const float diagonal = factor * kSplitScale;
        const SplitPair pair(fmaf(sum[column][2 * half], -1.0f / kSplitScale, row == first ? diagonal : 0.0f),
                             fmaf(sum[column][2 * half + 1], -1.0f / kSplitScale, row == first + 1 ? diagonal : 0.0f));
        put_pair(row, column, pair.high, pair.low);
      }
    __syncthreads();
  }

  const float* kernel_2_;
  unsigned char* shared_;
  int own_row_;
  uint32_t at_ = 0;  // the right operand
  Inverse inverse_;
  SplitRows<kSteps> product_;
};

template <int kPadded, int kHeadSize>
__global__ void __launch_bounds__(MmaInverseShape<kPadded>::kThreads, 1)
    mma_invert(const __grid_constant__ NystromTask task) {
  using Shape = MmaInverseShape<kPadded>;
  constexpr int kOwn = kPadded * kHeadSize / 4 / Shape::kThreads;  // fours of numbers of a thread
  constexpr uint32_t kHalfBytes = 2 * kPadded * kHeadSize;
  static_assert(2 * kHalfBytes <= Shape::kRightBytes);
  LAT_SHARED_MEMORY(shared);
  __shared__ float of_warps[Shape::kWarps];
  float* const factors = reinterpret_cast<float*>(shared + Shape::kRightBytes);
  const int64_t head = task.first_block + blockIdx.x;
  const int thread = thread_of_block(), lane = lane_of_warp();

  find_join_factors(task, head, factors);
  MmaInverse<kPadded> inverse(task.kernel_2 + head * kPadded * kPadded, shared,
                              task.scratch + head * 2 * kPadded * kPadded);
  const auto& rows = inverse.find(largest_column<Shape::kThreads>(task, head, of_warps));

  // kernel_3 x values, in two float16 too: numbers of any size, so all times what they need to be split well.
  float4 own[kOwn];
  float largest = 0.0f;
#pragma unroll
  for (int i = 0; i < kOwn; ++i) {
    const int at = 4 * (thread + i * Shape::kThreads);
    own[i] = joined<kHeadSize>(task, head, factors, at / kHeadSize, at % kHeadSize);
    largest = fmaxf(largest, fmaxf(fmaxf(fabsf(own[i].x), fabsf(own[i].y)), fmaxf(fabsf(own[i].z), fabsf(own[i].w))));
  }
  const float scale = scale_to(largest_of_block<Shape::kThreads>(largest, of_warps), 8);
#pragma unroll
  for (int i = 0; i < kOwn; ++i) {
    const int at = 4 * (thread + i * Shape::kThreads), row = at / kHeadSize, column = at % kHeadSize;
    const SplitPair first(own[i].x * scale, own[i].y * scale), second(own[i].z * scale, own[i].w * scale);
    unsigned char* const to = shared + swizzled<kHeadSize>(row, column / 8) + column % 8 * 2;
    *reinterpret_cast<uint2*>(to) = {first.high, second.high};
    *reinterpret_cast<uint2*>(to + kHalfBytes) = {first.low, second.low};
  }
  __syncthreads();
  float sum[kHeadSize / 8][4];
  multiply_split<Shape::kSteps, kHeadSize>(sum, shared_address(shared), MmaInverse<kPadded>::of(rows));

  float most = 0.0f;
#pragma unroll
  for (int column = 0; column < kHeadSize / 8; ++column)
#pragma unroll
    for (int i = 0; i < 4; ++i) most = fmaxf(most, fabsf(sum[column][i]));
  const float stored = scale_to(largest_of_block<Shape::kThreads>(most, of_warps), 13);
  if (thread == 0) task.summary_scale[head] = 1.0f / stored / kSplitScale / scale;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = thread / 32 * 16 + sum_row(lane, 2 * half);
    if (row >= task.landmarks) continue;
    __half* const to = static_cast<__half*>(task.summary) + (head * task.landmarks + row) * kHeadSize;
#pragma unroll
    for (int column = 0; column < kHeadSize / 8; ++column)
      *reinterpret_cast<uint32_t*>(to + 8 * column + sum_column(lane, 0)) =
          pack<__half>(sum[column][2 * half] * stored, sum[column][2 * half + 1] * stored);
  }
}

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

template <bool kMma, int kPadded, int kHeadSize>
void launch_invert_of_size(NystromTask task, cudaStream_t stream, lat_status& status) {
  task.blocks = task.heads;
  if constexpr (kMma) {
    using Shape = MmaInverseShape<kPadded>;
    launch_all("inverse", mma_invert<kPadded, kHeadSize>, task, task.blocks, Shape::kThreads,
               Shape::shared_bytes(task.segments), stream, status);
  } else {
    using Shape = SimtInverseShape<kPadded>;
    launch_all("inverse", simt_invert<kPadded, kHeadSize>, task, task.blocks, Shape::kThreads,
               Shape::shared_bytes(kHeadSize, task.segments), stream, status);
  }
}

template <bool kMma, int kHeadSize>
void launch_invert(const NystromTask& task, cudaStream_t stream, lat_status& status) {
  if (task.panels == 1)
    launch_invert_of_size<kMma, 64, kHeadSize>(task, stream, status);
  else
    launch_invert_of_size<kMma, 128, kHeadSize>(task, stream, status);
}

}  // namespace lat
