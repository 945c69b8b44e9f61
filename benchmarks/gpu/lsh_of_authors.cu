// The baseline of benchmarks/gpu/lsh.py: the algorithm of the authors' CUDA kernels for YOSO (arXiv 2111.09714, section
// 3.3; transformers' lsh_cumulation), written anew for this benchmark. float32; 32 columns of the values at a time: the
// tables of all hashes of all heads are zeroed in global memory, a warp a key adds its values to them with atomics, a
// warp a query reads its rows. Codes are int32 [heads, N, R], values and sums float32 [heads, N, D], D a multiple
// of 32.
#include <cuda_runtime.h>

#include <cstdint>

namespace {

constexpr int kWarps = 8, kThreads = 32 * kWarps, kSlice = 32;

__global__ void pack_codes(const float* products, int32_t* codes, int64_t count, int bits) {
  const int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (at >= count) return;
  int32_t code = 0;
  for (int t = 0; t < bits; ++t) code |= static_cast<int32_t>(products[at * bits + t] > 0.0f) << t;
  codes[at] = code;
}

struct Row {
  int64_t token, head_token;
  bool there;
  __device__ explicit Row(int64_t tokens)
      : token(int64_t{blockIdx.x} * kWarps + threadIdx.x / 32),
        head_token(blockIdx.y * tokens + token),
        there(token < tokens) {}
};

__global__ void add_keys(const int32_t* mask, const int32_t* codes, const float* values, float* tables, int64_t tokens,
                         int heads_of_row, int hashes, int64_t code_count, int head_size, int first) {
  const Row row(tokens);
  const int lane = threadIdx.x % 32;
  if (!row.there || mask[blockIdx.y / heads_of_row * tokens + row.token] == 0) return;
  const float value = values[row.head_token * head_size + first + lane];
  for (int hash = 0; hash < hashes; hash += 32) {
    const int32_t mine = hash + lane < hashes ? codes[row.head_token * hashes + hash + lane] : 0;
    for (int at = 0; at < 32 && hash + at < hashes; ++at) {
      const int64_t table = int64_t{blockIdx.y} * hashes + hash + at;
      atomicAdd(tables + (table * code_count + __shfl_sync(0xffffffff, mine, at)) * kSlice + lane, value);
    }
  }
}

__global__ void read_queries(const int32_t* codes, const float* tables, float* sums, int64_t tokens, int hashes,
                             int64_t code_count, int head_size, int first) {
  const Row row(tokens);
  const int lane = threadIdx.x % 32;
  if (!row.there) return;
  float sum = 0.0f;
  for (int hash = 0; hash < hashes; hash += 32) {
    const int32_t mine = hash + lane < hashes ? codes[row.head_token * hashes + hash + lane] : 0;
    for (int at = 0; at < 32 && hash + at < hashes; ++at) {
      const int64_t table = int64_t{blockIdx.y} * hashes + hash + at;
      sum += tables[(table * code_count + __shfl_sync(0xffffffff, mine, at)) * kSlice + lane];
    }
  }
  sums[row.head_token * head_size + first + lane] = sum / static_cast<float>(hashes);
}

}  // namespace

// products [count, bits] -> codes [count]
extern "C" int lsh_pack_codes(const float* products, int32_t* codes, int64_t count, int bits, cudaStream_t stream) {
  pack_codes<<<static_cast<unsigned>((count + kThreads - 1) / kThreads), kThreads, 0, stream>>>(products, codes, count,
                                                                                                bits);
  return static_cast<int>(cudaGetLastError());
}

// tables: float32 [heads, R, 2^T, 32]
extern "C" int lsh_cumulate(const int32_t* mask, const int32_t* query_codes, const int32_t* key_codes,
                            const float* values, float* tables, float* sums, int64_t heads, int64_t heads_of_row,
                            int64_t tokens, int64_t hashes, int64_t bits, int64_t head_size, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>((tokens + kWarps - 1) / kWarps), static_cast<unsigned>(heads));
  const int64_t code_count = int64_t{1} << bits;
  for (int first = 0; first < head_size; first += kSlice) {
    const cudaError_t error =
        cudaMemsetAsync(tables, 0, static_cast<size_t>(heads * hashes * code_count * kSlice) * sizeof(float), stream);
    if (error != cudaSuccess) return static_cast<int>(error);
    add_keys<<<grid, kThreads, 0, stream>>>(mask, key_codes, values, tables, tokens, static_cast<int>(heads_of_row),
                                            static_cast<int>(hashes), code_count, static_cast<int>(head_size), first);
    read_queries<<<grid, kThreads, 0, stream>>>(query_codes, tables, sums, tokens, static_cast<int>(hashes), code_count,
                                                static_cast<int>(head_size), first);
  }
  return static_cast<int>(cudaGetLastError());
}
