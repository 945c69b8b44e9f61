// The pseudo-inverse on the matrix units: a warp has 16 rows; Z and A Z as left operands stay in its registers, the
// right operand of each product lies in shared memory. Numbers are two float16 (cuda_split_rows.cuh).
#pragma once

#include "nystrom_attention/cuda_inverse.cuh"
#include "nystrom_attention/cuda_split_rows.cuh"

namespace lat {

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

template <int kHeadSize>
void launch_mma_invert(NystromTask task, cudaStream_t stream, lat_status& status) {
  with_padded(task, [&](auto padded) {
    using Shape = MmaInverseShape<decltype(padded)::value>;
    task.blocks = task.heads;
    launch_all("inverse", mma_invert<padded.value, kHeadSize>, task, task.blocks, Shape::kThreads,
               Shape::shared_bytes(task.segments), stream, status);
  });
}

}  // namespace lat
