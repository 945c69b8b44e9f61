// Rows of a head to shared memory as ldmatrix wants them (mma_layout.h), in asynchronous copies of 16 bytes.
#pragma once

#include "common/cuda_async_copy.cuh"
#include "common/mma_layout.h"

namespace lat {

// kRows rows; `token(row)` says which of those from `from` on, below 0 is a row of zeros.
template <int kColumns, int kRows, int kThreads, class Element, class Token>
__device__ __forceinline__ void copy_rows(uint32_t to, const Element* from, int64_t stride, Token token) {
  constexpr int kChunks = kColumns / 8;
#pragma unroll 2
  for (int at = thread_of_block(); at < kRows * kChunks; at += kThreads) {
    const int row = at / kChunks, chunk = at % kChunks;
    const int64_t source = token(row);
    copy_or_zero(to + swizzled<kColumns>(row, chunk), from + (source < 0 ? 0 : source * stride + chunk * 8),
                 source >= 0);
  }
}

}  // namespace lat
