// Attention of a few global rows from the hidden states, without keys and values of the sequence: with q_h . (Wk_h x)
// = (Wk_h^T q_h) . x, each of H * G "probes" Wk_h^T q_h attends with the hidden states as keys and values; then
// sum p (Wv x + b) = Wv (sum p x) + b. In float32. Three kernels: make_probes, mix_chunk, join_chunks.
#pragma once

#include "common/cuda_attention.cuh"
#include "common/cuda_launch.cuh"

namespace lat {

// The sequence is cut into at most so many chunks of whole tiles.
constexpr int kMostChunks = 64;
constexpr int kProbesAtOnce = 16, kProbeSlice = 64, kProbeStride = kProbeSlice + 4;

struct ProbeTask {
  lat_rows hidden_states, output;
  const void *key_weight, *value_weight, *value_bias;
  const void* query;  // [B, N, E], of which the first G rows of each are made
  TokenList list;
  float* probes;         // [B][P][E], probe g * H + h; scaled
  float* largest;        // [B][C][P]
  float* total;          // [B][C][P]
  float* mixed;          // [B][C][P][E], not normalised; of chunks whose total is 0 unwritten
  int64_t batch_stride;  // of these four, in floats
  int64_t first_block, width;
  int32_t tokens, num_heads, head_size;
  int32_t chunks, most_probes, most_globals;
  float scale_log2;

  // Globals of a row of the batch whose context is made this way.
  __device__ __forceinline__ int32_t globals(int64_t batch) const {
    const int32_t count = list.counts[batch];
    return count <= most_globals ? count : 0;
  }
};

// A block of threads: 128 columns of a head's probes. Blocks: [B][H][columns / 128].
constexpr int kProbeColumns = 128, kGlobalsAtOnce = 8;

template <class Element>
__global__ void __launch_bounds__(kProbeColumns) make_probes(const __grid_constant__ ProbeTask task) {
  __shared__ float query[kGlobalsAtOnce][128];
  const int64_t column_blocks = (task.width + kProbeColumns - 1) / kProbeColumns;
  int64_t block = task.first_block + blockIdx.x;
  const int64_t column = block % column_blocks * kProbeColumns + threadIdx.x;
  block /= column_blocks;
  const int64_t head = block % task.num_heads, batch = block / task.num_heads;
  const int32_t globals = task.globals(batch), head_size = task.head_size;
  const Element* const weight = static_cast<const Element*>(task.key_weight) + head * head_size * task.width;
  const Element* const queries =
      static_cast<const Element*>(task.query) + batch * task.tokens * task.width + head * head_size;
  float* const probes = task.probes + batch * task.batch_stride;

  for (int32_t first = 0; first < globals; first += kGlobalsAtOnce) {
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < kGlobalsAtOnce * head_size; i += kProbeColumns) {
      const int row = i / head_size, at = i % head_size;
      query[row][at] = first + row < globals ? to_float(queries[(first + row) * task.width + at]) : 0.0f;
    }
    __syncthreads();
    if (column >= task.width) continue;
    float sum[kGlobalsAtOnce] = {};
#pragma unroll 8
    for (int at = 0; at < head_size; ++at) {
      const float one = to_float(weight[at * task.width + column]);
#pragma unroll
      for (int row = 0; row < kGlobalsAtOnce; ++row) sum[row] = fmaf(query[row][at], one, sum[row]);
    }
#pragma unroll
    for (int row = 0; row < kGlobalsAtOnce; ++row)
      if (first + row < globals)
        probes[((first + row) * task.num_heads + head) * task.width + column] = sum[row] * task.scale_log2;
  }
}

// A block of threads: 16 probes over a chunk of the sequence. Blocks: [B][P / 16][C]. Of the scores a thread owns
// probes ty and ty + 8 and keys tx + 16 j; of the mixed rows the same probes and columns 4 tx to 4 tx + 3 of a slice.
constexpr int kMixThreads = 128, kMixLanes = 16;

// 64 tokens of a slice of the hidden states; zeros for what is no key or beyond the width.
template <class Element>
__device__ __forceinline__ void load_slice(float* to, const Element* from, int64_t stride, int64_t slice, int64_t width,
                                           uint64_t keys) {
#pragma unroll 8
  for (int i = static_cast<int>(threadIdx.x); i < kTileKeys * kProbeSlice; i += kMixThreads) {
    const int row = i / kProbeSlice, column = i % kProbeSlice;
    to[row * kProbeStride + column] =
        (keys >> row & 1) != 0 && slice + column < width ? to_float(from[row * stride + slice + column]) : 0.0f;
  }
}

template <class Element>
__global__ void __launch_bounds__(kMixThreads, 4) mix_chunk(const __grid_constant__ ProbeTask task) {
  __shared__ __align__(16) float hidden[kTileKeys * kProbeStride], probe[kProbesAtOnce * kProbeStride];
  __shared__ __align__(16) float weights[kProbesAtOnce * kProbeStride];
  int64_t block = task.first_block + blockIdx.x;
  const int64_t chunk = block % task.chunks;
  block /= task.chunks;
  const int32_t probe_blocks = (task.most_probes + kProbesAtOnce - 1) / kProbesAtOnce;
  const int32_t first = static_cast<int32_t>(block % probe_blocks) * kProbesAtOnce;
  const int64_t batch = block / probe_blocks, width = task.width;
  const int32_t probes = task.globals(batch) * task.num_heads;
  if (first >= probes) return;

  const int64_t tiles = tiles_of(task.tokens);
  const uint64_t* const key_bits = task.list.key_bits + batch * tiles;
  const float* const from = task.probes + batch * task.batch_stride;
  const int64_t part = (batch * task.batch_stride) + (chunk * task.most_probes + first);
  float* const mixed = task.mixed + batch * task.batch_stride + (chunk * task.most_probes + first) * width;
  const int tx = static_cast<int>(threadIdx.x) % kMixLanes, ty = static_cast<int>(threadIdx.x) / kMixLanes;
  float largest[2] = {-INFINITY, -INFINITY}, total[2] = {0.0f, 0.0f};

  for (int64_t tile = tiles * chunk / task.chunks; tile < tiles * (chunk + 1) / task.chunks; ++tile) {
    const uint64_t keys = key_bits[tile];
    if (keys == 0) continue;
    const Element* const rows = row_of<const Element>(task.hidden_states, batch, tile * kTileKeys, 0);
    const int64_t stride = task.hidden_states.row_stride;

    float score[2][4] = {};
    for (int64_t slice = 0; slice < width; slice += kProbeSlice) {
      __syncthreads();
      load_slice(hidden, rows, stride, slice, width, keys);
#pragma unroll
      for (int i = static_cast<int>(threadIdx.x); i < kProbesAtOnce * kProbeSlice; i += kMixThreads) {
        const int row = i / kProbeSlice, column = i % kProbeSlice;
        probe[row * kProbeStride + column] =
            first + row < probes && slice + column < width ? from[(first + row) * width + slice + column] : 0.0f;
      }
      __syncthreads();
#pragma unroll 4
      for (int k = 0; k < kProbeSlice; k += 4) {
        float4 left[2], right[4];
#pragma unroll
        for (int i = 0; i < 2; ++i) left[i] = *reinterpret_cast<const float4*>(probe + (ty + 8 * i) * kProbeStride + k);
#pragma unroll
        for (int j = 0; j < 4; ++j)
          right[j] = *reinterpret_cast<const float4*>(hidden + (tx + kMixLanes * j) * kProbeStride + k);
#pragma unroll
        for (int i = 0; i < 2; ++i)
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            score[i][j] = fmaf(left[i].x, right[j].x, score[i][j]);
            score[i][j] = fmaf(left[i].y, right[j].y, score[i][j]);
            score[i][j] = fmaf(left[i].z, right[j].z, score[i][j]);
            score[i][j] = fmaf(left[i].w, right[j].w, score[i][j]);
          }
      }
    }

    // There is a key, so the largest score is finite from here on.
    float before[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float now = largest[i];
#pragma unroll
      for (int j = 0; j < 4; ++j)
        if ((keys >> (tx + kMixLanes * j) & 1) != 0) now = fmaxf(now, score[i][j]);
#pragma unroll
      for (int step = 1; step < kMixLanes; step *= 2) now = fmaxf(now, __shfl_xor_sync(0xffffffff, now, step));
      before[i] = exp2f(largest[i] - now);
      largest[i] = now;
      float sum = 0.0f;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int key = tx + kMixLanes * j;
        const float weight = (keys >> key & 1) != 0 ? exp2f(score[i][j] - now) : 0.0f;
        weights[(ty + 8 * i) * kProbeStride + key] = weight;
        sum += weight;
      }
#pragma unroll
      for (int step = 1; step < kMixLanes; step *= 2) sum += __shfl_xor_sync(0xffffffff, sum, step);
      const bool had = total[i] > 0.0f;
      total[i] = fmaf(total[i], before[i], sum);
      if (!had) before[i] = 0.0f;
    }

    for (int64_t slice = 0; slice < width; slice += kProbeSlice) {
      __syncthreads();
      load_slice(hidden, rows, stride, slice, width, keys);
      __syncthreads();
      const int64_t column = slice + 4 * tx;
      float4 sum[2];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        sum[i] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        // What lies there before the first tile is not read: it may be anything.
        if (before[i] != 0.0f && column < width) {
          sum[i] = *reinterpret_cast<const float4*>(mixed + (ty + 8 * i) * width + column);
          sum[i].x *= before[i], sum[i].y *= before[i], sum[i].z *= before[i], sum[i].w *= before[i];
        }
      }
#pragma unroll 8
      for (int key = 0; key < kTileKeys; ++key) {
        const float4 one = *reinterpret_cast<const float4*>(hidden + key * kProbeStride + 4 * tx);
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const float weight = weights[(ty + 8 * i) * kProbeStride + key];
          sum[i].x = fmaf(weight, one.x, sum[i].x);
          sum[i].y = fmaf(weight, one.y, sum[i].y);
          sum[i].z = fmaf(weight, one.z, sum[i].z);
          sum[i].w = fmaf(weight, one.w, sum[i].w);
        }
      }
#pragma unroll
      for (int i = 0; i < 2; ++i)
        if (first + ty + 8 * i < probes && column < width)
          *reinterpret_cast<float4*>(mixed + (ty + 8 * i) * width + column) = sum[i];
    }
  }
  if (tx == 0) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (first + ty + 8 * i >= probes) continue;
      task.largest[part + ty + 8 * i] = largest[i];
      task.total[part + ty + 8 * i] = total[i];
    }
  }
}

// A block of threads: one head of one global row. Blocks: [B][most_globals][H].
constexpr int kJoinThreads = 256, kJoinColumns = 512;

template <class Element>
__global__ void __launch_bounds__(kJoinThreads) join_chunks(const __grid_constant__ ProbeTask task) {
  __shared__ float share[kMostChunks], mixed[kJoinColumns], context[128];
  int64_t block = task.first_block + blockIdx.x;
  const int64_t head = block % task.num_heads;
  block /= task.num_heads;
  const int32_t global = static_cast<int32_t>(block % task.most_globals);
  const int64_t batch = block / task.most_globals, width = task.width;
  if (global >= task.globals(batch)) return;
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  const int64_t probe = int64_t{global} * task.num_heads + head, base = batch * task.batch_stride;

  if (thread < kMostChunks) {
    const bool within = thread < task.chunks;
    const int64_t part = base + thread * int64_t{task.most_probes} + probe;
    share[thread] = within && task.total[part] > 0.0f ? task.largest[part] : -INFINITY;
  }
  if (thread < 128) context[thread] = 0.0f;
  __syncthreads();
  // Every thread works out the same: the largest score, then the sum in the order of the chunks.
  float largest = -INFINITY, total = 0.0f;
  for (int chunk = 0; chunk < task.chunks; ++chunk) largest = fmaxf(largest, share[chunk]);
  __syncthreads();
  if (thread < kMostChunks) share[thread] = share[thread] == -INFINITY ? 0.0f : exp2f(share[thread] - largest);
  __syncthreads();
  for (int chunk = 0; chunk < task.chunks; ++chunk)
    if (share[chunk] != 0.0f)
      total = fmaf(share[chunk], task.total[base + chunk * int64_t{task.most_probes} + probe], total);
  const float factor = total > 0.0f ? 1.0f / total : 0.0f;

  const Element* const weight = static_cast<const Element*>(task.value_weight) + head * task.head_size * width;
  for (int64_t first = 0; first < width; first += kJoinColumns) {
    __syncthreads();
#pragma unroll
    for (int at = thread; at < kJoinColumns; at += kJoinThreads) {
      float sum = 0.0f;
      if (first + at < width) {
#pragma unroll 8
        for (int chunk = 0; chunk < task.chunks; ++chunk)
          if (share[chunk] != 0.0f)
            sum = fmaf(share[chunk],
                       task.mixed[base + (chunk * int64_t{task.most_probes} + probe) * width + first + at], sum);
      }
      mixed[at] = sum * factor;
    }
    __syncthreads();
    const int columns = static_cast<int>(width - first < kJoinColumns ? width - first : kJoinColumns);
    for (int row = warp; row < task.head_size; row += kJoinThreads / 32) {
      float sum = 0.0f;
#pragma unroll 4
      for (int at = lane; at < columns; at += 32)
        sum = fmaf(mixed[at], to_float(weight[row * width + first + at]), sum);
#pragma unroll
      for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffff, sum, step);
      if (lane == 0) context[row] += sum;
    }
  }
  __syncthreads();
  if (thread < task.head_size) {
    const int64_t column = head * task.head_size + thread;
    const int32_t token = task.list.positions[batch * task.tokens + global];
    *row_of<Element>(task.output, batch, token, column) =
        from_float<Element>(context[thread] + to_float(static_cast<const Element*>(task.value_bias)[column]));
  }
}

template <class Element>
void launch_probes(const ProbeTask& task, int64_t batch, cudaStream_t stream, lat_status& status) {
  if (task.most_globals == 0) return;
  const int64_t probe_blocks = (task.most_probes + kProbesAtOnce - 1) / kProbesAtOnce;
  launch_all("probes", make_probes<Element>, task,
             batch * task.num_heads * ((task.width + kProbeColumns - 1) / kProbeColumns), kProbeColumns, 0, stream,
             status);
  launch_all("mixed hidden states", mix_chunk<Element>, task, batch * probe_blocks * task.chunks, kMixThreads, 0,
             stream, status);
  launch_all("context of probes", join_chunks<Element>, task, batch * task.most_globals * task.num_heads, kJoinThreads,
             0, stream, status);
}

}  // namespace lat
