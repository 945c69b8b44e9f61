// Nystroemformer's convolution of the values of a head on the device, what value_convolution.h is on the CPU: taps
// [H, K], K odd, over the tokens, zeros beyond both ends. Every value of the sequence counts, those of padding too, and
// every row gets a sum. Sums are float32.
//
// Two forms, each for a block of threads that holds float32 sums of a block of rows of one head:
//   MmaConvolution   16-bit elements whose rows lie on 16 bytes. On the matrix units: left are the taps on a diagonal
//                    band, element (row i, value p) is tap p - i, right the values. Exact products, float32 sums. A
//                    warp has 16 rows, sums as mma.sync leaves them.
//   SimtConvolution  float32, and any other rows. Fused multiply-adds; 128 threads, a thread has 4 rows side by side.
// Each value is read once by a block and kRows - 1 + K rows of values by a block of kRows rows; K is bounded by
// nothing, at most kTapsAtOnce taps are in shared memory.
//
// In another kernel, 256 bytes of alignment and kSharedBytes of shared memory given (all threads call all of these):
//
//     MmaConvolution<Element, kHeadSize, kWarps> convolution(shared, value, stride, tokens, taps, count);
//     convolution.load();            // once
//     convolution.start(first);      // the first values are on their way; they may be, long before they are needed
//     ...                            // any work that leaves `shared` alone
//     convolution.add(sum, first);   // sum[kHeadSize / 8][4] of rows first + 16 * warp + sum_row(lane, i)
//     __syncthreads();               // before the next start()
//
// And a kernel of its own, which adds it to rows that are there already, which rounds once more:
//
//     ValueConvolutionTask task{};   // value, output, conv_weight, taps, tokens, num_heads
//     launch_add_value_convolution<Element>("convolution", task, batch, head_size, stream, status);
#pragma once

#include "common/convolution_walk.h"
#include "common/cuda_attention.cuh"
#include "common/cuda_copy_rows.cuh"
#include "common/cuda_launch.cuh"
#include "common/cuda_sum_rows.cuh"

namespace lat {

template <class Element, int kHeadSize, int kWarps>
class MmaConvolution {
 public:
  static constexpr int kThreads = 32 * kWarps, kRows = 16 * kWarps;
  static constexpr int kChunkRows = kHeadSize == 128 ? 32 : 64, kChunks = kHeadSize / 8;  // of 16 bytes in a row
  static constexpr uint32_t kRowBytes = 2 * kHeadSize, kChunkBytes = kChunkRows * kRowBytes;
  // Steps of 16 x 16 that meet a tap reach at most 30 beyond the first and the last.
  static constexpr int kLead = 32, kTapNumbers = kLead + kTapsAtOnce + kLead;
  // Chunks that lie in shared memory: with K up to 65, all that a block of rows meets.
  static constexpr int kStages = kHeadSize == 128 ? 2 : 3;
  static constexpr int kSharedBytes = static_cast<int>(kStages * kChunkBytes) + (4 * kTapNumbers + 255) / 256 * 256;

  // `value`: the head's columns of token 0; `taps`: the `count` taps of the head.
  __device__ __forceinline__ MmaConvolution(unsigned char* shared, const Element* value, int64_t stride, int32_t tokens,
                                            const Element* taps, int64_t count)
      : chunks_(shared_address(shared)),
        taps_(reinterpret_cast<Element*>(shared + kStages * kChunkBytes)),
        value_(value),
        stride_(stride),
        range_(count, tokens),
        from_(taps + range_.first(count)),
        tokens_(tokens) {}

  // Once, before all else.
  __device__ __forceinline__ void load() const { load_taps(0); }

  __device__ __forceinline__ void start(int64_t first) const {
    if (range_.count() > kTapsAtOnce) load_taps(0);
    copy_first(chunks_of(first, 0));
  }

  __device__ __forceinline__ void add(float (&sum)[kHeadSize / 8][4], int64_t first) const {
    for (int64_t tap = 0; tap < range_.count(); tap += kTapsAtOnce) {
      const ConvolutionChunks chunks = chunks_of(first, tap);
      if (tap != 0) {
        __syncthreads();
        load_taps(tap);
        copy_first(chunks);
      }
      uint32_t stage = 0, before = kStages - 1;
      for (int32_t chunk = chunks.from; chunk < chunks.to; ++chunk) {
        // The first chunks came together; each further one takes the place of the one before this.
        const bool further = chunk > chunks.from && chunk - 1 + kStages < chunks.to;
        if (chunk == chunks.from || chunk >= chunks.from + kStages || further) {
          wait_for_copies();
          __syncthreads();  // this chunk is here, and no warp reads the one before any more
        }
        if (further) copy(chunks, chunk - 1 + kStages, before);
        end_copies();
        multiply(sum, chunks, chunk, stage);
        before = stage;
        stage = stage + 1 == kStages ? 0 : stage + 1;
      }
    }
  }

 private:
  __device__ __forceinline__ ConvolutionChunks chunks_of(int64_t first, int64_t tap) const {
    return {range_, tap, first, kRows, kChunkRows, tokens_};
  }

  __device__ __forceinline__ void copy_first(const ConvolutionChunks& chunks) const {
#pragma unroll
    for (int stage = 0; stage < kStages; ++stage)
      if (chunks.from + stage < chunks.to) copy(chunks, chunks.from + stage, stage);
    end_copies();
  }

  // Twice, the second time one number further to the left: pairs that begin at an odd place are a word of those.
  __device__ __forceinline__ void load_taps(int64_t tap) const {
    for (int at = thread_of_block(); at < kTapNumbers; at += kThreads) {
      const int64_t own = tap + at - kLead;
      const bool there = at >= kLead && at < kLead + kTapsAtOnce && own < range_.count();
      const Element number = there ? from_[own] : from_float<Element>(0.0f);
      taps_[at] = number;
      taps_[kTapNumbers + (at == 0 ? kTapNumbers - 1 : at - 1)] = number;
    }
  }

  __device__ __forceinline__ void copy(const ConvolutionChunks& chunks, int32_t chunk, uint32_t stage) const {
    const int64_t first = chunks.token + int64_t{kChunkRows} * chunk;
    copy_rows<kHeadSize, kChunkRows, kThreads>(chunks_ + stage * kChunkBytes, value_, stride_, [&](int row) {
      const int64_t token = first + row;  // below 0: zeros
      return token < tokens_ ? token : int64_t{-1};
    });
  }

  // Taps t and t + 1.
  __device__ __forceinline__ uint32_t two_taps(int t) const {
    const int at = t + kLead;
    return reinterpret_cast<const uint32_t*>(taps_)[(at & 1) * (kTapNumbers / 2) + at / 2];
  }

  __device__ __forceinline__ void multiply(float (&sum)[kHeadSize / 8][4], const ConvolutionChunks& chunks,
                                           int32_t chunk, uint32_t stage) const {
    const int lane = lane_of_warp(), warp = thread_of_block() / 32;
    const Place place = place_by_columns(lane);
    const uint32_t values = chunks_ + stage * kChunkBytes + swizzled<kHeadSize>(place.row, place.chunk);
#pragma unroll
    for (int step = 0; step < kChunkRows / 16; ++step) {
      const int band = kChunkRows * chunk + 16 * step - 16 * warp;  // the tap of row 0 and value 0 of this step
      if (band + 15 < 0 || band - 15 >= chunks.taps) continue;
      const int own = band + sum_column(lane, 0) - sum_row(lane, 0);
      // 8 rows down and 8 values on is the same tap.
      const uint32_t same = two_taps(own), taps[4] = {same, two_taps(own - 8), two_taps(own + 8), same};
#pragma unroll
      for (int pair = 0; pair < kHeadSize / 16; ++pair) {
        uint32_t value[4];
        load_matrices_transposed(value, pairs_further(values, pair) + step * 16 * kRowBytes);
        multiply_add<Element>(sum[2 * pair], taps, value[0], value[1]);
        multiply_add<Element>(sum[2 * pair + 1], taps, value[2], value[3]);
      }
    }
  }

  uint32_t chunks_;
  Element* taps_;
  const Element* value_;
  int64_t stride_;
  TapRange range_;
  const Element* from_;
  int32_t tokens_;
};

// A thread has rows 4 * group + i, group = thread / 8, and of the columns runs of kRun, 8 of them side by side: it has
// run thread % 8.
template <class Element, int kHeadSize>
class SimtConvolution {
 public:
  static constexpr int kThreads = 128, kLanes = 8, kOwnRows = 4, kRows = kThreads / kLanes * kOwnRows, kChunkRows = 64;
  static constexpr int kRun = kHeadSize / kLanes < 4 ? kHeadSize / kLanes : 4, kRuns = kHeadSize / (kLanes * kRun);
  static constexpr int kColumns = kRuns * kRun;  // of a thread
  static constexpr int kStride = kHeadSize + 4;  // 16 bytes more, so that rows begin in different banks
  static constexpr int kLead = 4, kTapNumbers = kLead + kTapsAtOnce + 2 * kLead;
  static constexpr int kSharedBytes = (kChunkRows * kStride + kTapNumbers) * 4;

  __device__ __forceinline__ SimtConvolution(unsigned char* shared, const Element* value, int64_t stride,
                                             int32_t tokens, const Element* taps, int64_t count)
      : values_(reinterpret_cast<float*>(shared)),
        taps_(values_ + kChunkRows * kStride),
        value_(value),
        stride_(stride),
        range_(count, tokens),
        from_(taps + range_.first(count)),
        tokens_(tokens) {}

  __device__ static __forceinline__ int row(int own) { return thread_of_block() / kLanes * kOwnRows + own; }
  __device__ static __forceinline__ int column(int own) {
    return (own / kRun * kLanes + thread_of_block() % kLanes) * kRun + own % kRun;
  }

  // Begins with a barrier: `shared` may have been in use until then.
  __device__ __forceinline__ void add(float (&sum)[kOwnRows][kColumns], int64_t first) const {
    for (int64_t tap = 0; tap < range_.count(); tap += kTapsAtOnce) {
      const ConvolutionChunks chunks(range_, tap, first, kRows, kChunkRows, tokens_);
      for (int32_t chunk = chunks.from; chunk < chunks.to; ++chunk) {
        __syncthreads();
        if (chunk == chunks.from) load_taps(tap);
        load_values(chunks.token + int64_t{kChunkRows} * chunk);
        __syncthreads();
        multiply(sum, chunks, chunk);
      }
    }
  }

 private:
  __device__ __forceinline__ void load_taps(int64_t tap) const {
    for (int at = thread_of_block(); at < kTapNumbers; at += kThreads) {
      const int64_t own = tap + at - kLead;
      const bool there = at >= kLead && at < kLead + kTapsAtOnce && own < range_.count();
      taps_[at] = there ? to_float(from_[own]) : 0.0f;
    }
  }

  __device__ __forceinline__ void load_values(int64_t first) const {
#pragma unroll 8
    for (int at = thread_of_block(); at < kChunkRows * kHeadSize; at += kThreads) {
      const int row = at / kHeadSize, column = at % kHeadSize;
      const int64_t token = first + row;
      values_[row * kStride + column] =
          token >= 0 && token < tokens_ ? to_float(value_[token * stride_ + column]) : 0.0f;
    }
  }

  __device__ __forceinline__ void multiply(float (&sum)[kOwnRows][kColumns], const ConvolutionChunks& chunks,
                                           int32_t chunk) const {
    const int own_first = row(0), to = own_first + kOwnRows - 1 + chunks.taps - kChunkRows * chunk;
    const int from = own_first - kChunkRows * chunk, last = to < kChunkRows ? to : kChunkRows;
    float part[kOwnRows][kColumns] = {};  // of this chunk: a sum of parts rounds less than one over all taps
    for (int at = from < 0 ? 0 : from; at < last; at += 4) {
      const int first_tap = kChunkRows * chunk + at - own_first;
      float tap[kOwnRows + 3];
#pragma unroll
      for (int i = 0; i < kOwnRows + 3; ++i) tap[i] = taps_[kLead + first_tap + i - (kOwnRows - 1)];
#pragma unroll
      for (int k = 0; k < 4; ++k)
#pragma unroll
        for (int own = 0; own < kColumns; ++own) {
          const float value = values_[(at + k) * kStride + column(own)];
#pragma unroll
          for (int i = 0; i < kOwnRows; ++i) part[i][own] = fmaf(tap[kOwnRows - 1 + k - i], value, part[i][own]);
        }
    }
#pragma unroll
    for (int i = 0; i < kOwnRows; ++i)
#pragma unroll
      for (int own = 0; own < kColumns; ++own) sum[i][own] += part[i][own];
  }

  float *values_, *taps_;
  const Element* value_;
  int64_t stride_;
  TapRange range_;
  const Element* from_;
  int32_t tokens_;
};

struct ValueConvolutionTask {
  lat_rows value, output;
  const void* conv_weight;  // [H, K]
  int64_t first_block;      // of this launch
  int64_t taps;             // K
  int32_t tokens, num_heads;
  int32_t row_blocks;  // of a head; set by the launch
};

// What a block of threads of the kernels that add to rows works on.
template <class Element, int kHeadSize>
struct ValueConvolutionBlock {
  const Element *value, *taps;
  Element* output;
  int64_t first;

  __device__ __forceinline__ ValueConvolutionBlock(const ValueConvolutionTask& task, int rows) {
    const int64_t block = task.first_block + blockIdx.x, head = block / task.row_blocks % task.num_heads;
    const int64_t batch = block / task.row_blocks / task.num_heads;
    first = block % task.row_blocks * rows;
    value = row_of<const Element>(task.value, batch, 0, head * kHeadSize);
    output = row_of<Element>(task.output, batch, first, head * kHeadSize);
    taps = static_cast<const Element*>(task.conv_weight) + head * task.taps;
  }
};

template <class Element, int kHeadSize>
using MmaConvolutionOfKernel = MmaConvolution<Element, kHeadSize, kHeadSize == 128 ? 4 : 8>;

template <class Element, int kHeadSize>
__global__ void __launch_bounds__(MmaConvolutionOfKernel<Element, kHeadSize>::kThreads, 2)
    mma_add_convolution(const __grid_constant__ ValueConvolutionTask task) {
  using Convolution = MmaConvolutionOfKernel<Element, kHeadSize>;
  LAT_SHARED_MEMORY(shared);
  const ValueConvolutionBlock<Element, kHeadSize> block(task, Convolution::kRows);
  Convolution convolution(shared, block.value, task.value.row_stride, task.tokens, block.taps, task.taps);
  convolution.load();
  convolution.start(block.first);
  const int own = thread_of_block() / 32 * 16;
  const int64_t rows = task.tokens - block.first - own, stride = task.output.row_stride;
  float sum[kHeadSize / 8][4];
  read_sums<Element, kHeadSize>(sum, block.output + own * stride, stride, rows);
  convolution.add(sum, block.first);
  write_sums<Element, kHeadSize>(block.output + own * stride, stride, rows, sum);
}

template <class Element, int kHeadSize>
__global__ void __launch_bounds__(SimtConvolution<Element, kHeadSize>::kThreads)
    simt_add_convolution(const __grid_constant__ ValueConvolutionTask task) {
  using Convolution = SimtConvolution<Element, kHeadSize>;
  LAT_SHARED_MEMORY(shared);
  const ValueConvolutionBlock<Element, kHeadSize> block(task, Convolution::kRows);
  const int64_t rows = task.tokens - block.first, stride = task.output.row_stride;
  float sum[Convolution::kOwnRows][Convolution::kColumns];
#pragma unroll
  for (int i = 0; i < Convolution::kOwnRows; ++i)
#pragma unroll
    for (int own = 0; own < Convolution::kColumns; ++own) {
      const int64_t row = Convolution::row(i);
      sum[i][own] = row < rows ? to_float(block.output[row * stride + Convolution::column(own)]) : 0.0f;
    }
  Convolution(shared, block.value, task.value.row_stride, task.tokens, block.taps, task.taps).add(sum, block.first);
#pragma unroll
  for (int i = 0; i < Convolution::kOwnRows; ++i)
#pragma unroll
    for (int own = 0; own < Convolution::kColumns; ++own) {
      const int64_t row = Convolution::row(i);
      if (row < rows) block.output[row * stride + Convolution::column(own)] = from_float<Element>(sum[i][own]);
    }
}

template <class Element, int kHeadSize>
void launch_add_convolution_of_size(const char* step, ValueConvolutionTask task, int64_t batch, cudaStream_t stream,
                                    lat_status& status) {
  const auto run = [&](void (*kernel)(ValueConvolutionTask), int rows, int threads, int shared_bytes) {
    task.row_blocks = static_cast<int32_t>((int64_t{task.tokens} + rows - 1) / rows);
    launch_all(step, kernel, task, batch * task.num_heads * task.row_blocks, threads, shared_bytes, stream, status);
  };
  if constexpr (sizeof(Element) == 2) {
    using Mma = MmaConvolutionOfKernel<Element, kHeadSize>;
    if (lies_on_16_bytes(task.value, 2) && lies_on_16_bytes(task.output, 2))
      return run(mma_add_convolution<Element, kHeadSize>, Mma::kRows, Mma::kThreads, Mma::kSharedBytes);
  }
  using Simt = SimtConvolution<Element, kHeadSize>;
  run(simt_add_convolution<Element, kHeadSize>, Simt::kRows, Simt::kThreads, Simt::kSharedBytes);
}

// Adds the convolution to `task.output`; D is 16, 32, 64 or 128.
template <class Element>
void launch_add_value_convolution(const char* step, const ValueConvolutionTask& task, int64_t batch, int64_t head_size,
                                  cudaStream_t stream, lat_status& status) {
  switch (head_size) {
    case 16:
      return launch_add_convolution_of_size<Element, 16>(step, task, batch, stream, status);
    case 32:
      return launch_add_convolution_of_size<Element, 32>(step, task, batch, stream, status);
    case 64:
      return launch_add_convolution_of_size<Element, 64>(step, task, batch, stream, status);
    default:
      return launch_add_convolution_of_size<Element, 128>(step, task, batch, stream, status);
  }
}

}  // namespace lat
