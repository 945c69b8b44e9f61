// Keys in the order of their codes, and of their place where codes are alike: a stable counting sort, one block of
// threads a hash of a head. A warp counts, and later places, a stretch of the keys, 32 at a time; nothing hangs on
// which warp is faster.
#pragma once

#include "common/cuda_launch.cuh"
#include "common/token_list.h"
#include "lsh_cumulation/cuda_codes.cuh"

namespace lat {

struct OrderTask {
  uint16_t* codes;  // of the keys, [B, H, R] lists of `stride`; what is kept is left in order, at the start of a list
  int32_t* order;   // [B, H, R] lists of `stride`: the keys that are kept
  int32_t* kept;    // [B, H, R]
  int64_t first_block, stride;
  int32_t tokens, code_count;  // 2^T
};

// Counts of all warps take at most 64 KiB: T = 12 has half as many warps.
template <int kOrderWarps>
struct OrderShape {
  static constexpr int kWarps = kOrderWarps, kThreads = 32 * kWarps;
  static constexpr int kLoads = 4;          // of 32 codes, that a warp has under way
  static constexpr int kMostStaged = 8192;  // a list of more keys is written place by place
  static bool staged(int64_t tokens) { return tokens <= kMostStaged; }
  static int shared_bytes(int code_count, int64_t tokens) {
    return (kWarps * code_count + (staged(tokens) ? static_cast<int>(tokens) : 0)) * 4;
  }
};

// The codes of a warp's stretch, `first` and on: visit(key, code, lanes with the same code) for each, all lanes
// together; those of padding and beyond the last have kNoCode.
template <class Shape, class Visit>
__device__ __forceinline__ void visit_codes(const uint16_t* codes, int64_t first, int64_t last, Visit visit) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for (int64_t at = first; at < last; at += 32 * Shape::kLoads) {
    uint16_t code[Shape::kLoads];
#pragma unroll
    for (int load = 0; load < Shape::kLoads; ++load) {
      const int64_t key = at + 32 * load + lane;
      code[load] = key < last ? codes[key] : kNoCode;
    }
#pragma unroll
    for (int load = 0; load < Shape::kLoads; ++load)
      visit(static_cast<int32_t>(at + 32 * load + lane), code[load],
            __match_any_sync(0xffffffff, static_cast<unsigned>(code[load])));
  }
}

// Exclusive sums over the threads of a block, and over all.
template <int kWarps>
__device__ __forceinline__ int32_t sum_before(int32_t own, int32_t (&of_warp)[kWarps], int32_t& all) {
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  int32_t sum = own;
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const int32_t other = __shfl_sync(0xffffffff, sum, lane < step ? lane : lane - step);
    if (lane >= step) sum += other;
  }
  if (lane == 31) of_warp[warp] = sum;
  __syncthreads();
  sum -= own;
  all = 0;
#pragma unroll
  for (int other = 0; other < kWarps; ++other) {
    if (other < warp) sum += of_warp[other];
    all += of_warp[other];
  }
  return sum;
}

template <int kOrderWarps>
__global__ void __launch_bounds__(OrderShape<kOrderWarps>::kThreads)
    order_keys(const __grid_constant__ OrderTask task) {
  using Shape = OrderShape<kOrderWarps>;
  LAT_SHARED_MEMORY(shared);
  __shared__ int32_t of_warp[Shape::kWarps];
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  const int code_count = task.code_count;
  const int64_t list = task.first_block + blockIdx.x, tokens = task.tokens;
  uint16_t* const codes = task.codes + list * task.stride;
  int32_t* const order = task.order + list * task.stride;
  int32_t* const counts = reinterpret_cast<int32_t*>(shared);  // [warp][code], then places
  int32_t* const own = counts + warp * code_count;
  const bool staged = tokens <= Shape::kMostStaged;
  int32_t* const to = staged ? counts + Shape::kWarps * code_count : order;

  for (int at = thread; at < Shape::kWarps * code_count; at += Shape::kThreads) counts[at] = 0;
  __syncthreads();
  const int64_t stretch = (tokens + Shape::kThreads - 1) / Shape::kThreads * 32, first = warp * stretch;
  const int64_t last = first + stretch < tokens ? first + stretch : tokens;
  visit_codes<Shape>(codes, first, last, [&](int32_t, uint16_t code, uint32_t alike) {
    if (code != kNoCode && (alike & lanes_before(lane)) == 0) own[code] += __popc(alike);
    __syncwarp();
  });
  __syncthreads();

  // Where the first key of each code and warp goes: codes in order, of each code warps in order.
  const int codes_of_thread = (code_count + Shape::kThreads - 1) / Shape::kThreads;
  const int first_code = thread * codes_of_thread;
  int32_t counted = 0, kept = 0;
  for (int code = first_code; code < first_code + codes_of_thread && code < code_count; ++code)
    for (int of = 0; of < Shape::kWarps; ++of) counted += counts[of * code_count + code];
  int32_t place = sum_before<Shape::kWarps>(counted, of_warp, kept);
  for (int code = first_code; code < first_code + codes_of_thread && code < code_count; ++code)
    for (int of = 0; of < Shape::kWarps; ++of) {
      const int32_t count = counts[of * code_count + code];
      counts[of * code_count + code] = place;
      place += count;
    }
  if (thread == 0) task.kept[list] = kept;
  __syncthreads();

  visit_codes<Shape>(codes, first, last, [&](int32_t key, uint16_t code, uint32_t alike) {
    const int32_t before = code != kNoCode ? own[code] : 0;
    __syncwarp();
    if (code != kNoCode) {
      to[before + __popc(alike & lanes_before(lane))] = key;
      if ((alike & lanes_before(lane)) == 0) own[code] = before + __popc(alike);
    }
    __syncwarp();
  });
  __syncthreads();

  // Every code has been read. Those of the last warp's places are where the runs end now.
  if (staged)
    for (int at = thread; at < kept; at += Shape::kThreads) order[at] = to[at];
  const int32_t* const ends = counts + (Shape::kWarps - 1) * code_count;
  for (int code = warp; code < code_count; code += Shape::kWarps)
    for (int64_t at = (code == 0 ? 0 : ends[code - 1]) + lane; at < ends[code]; at += 32)
      codes[at] = static_cast<uint16_t>(code);
}

inline void launch_order(const OrderTask& task, int64_t lists, cudaStream_t stream, lat_status& status) {
  const auto run = [&](auto shape, void (*kernel)(OrderTask)) {
    using Shape = decltype(shape);
    launch_all("order of the keys", kernel, task, lists, Shape::kThreads,
               Shape::shared_bytes(task.code_count, task.tokens), stream, status);
  };
  if (task.code_count <= 2048)
    run(OrderShape<8>{}, order_keys<8>);
  else
    run(OrderShape<4>{}, order_keys<4>);
}

}  // namespace lat
