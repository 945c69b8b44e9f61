// The kernel for an element type, a head size and how rows lie in memory.
#pragma once

#include "common/cuda_mma_attention.cuh"
#include "common/cuda_simt_attention.cuh"

namespace lat {

template <class Shape, RowsOf kRowsOf>
void launch_attention_kernel(const char* step, void (*kernel)(AttentionTask), AttentionTask task, int64_t batch,
                             cudaStream_t stream, lat_status& status) {
  task.row_blocks = row_blocks<kRowsOf>(task.tokens, Shape::kRows);
  launch_all(step, kernel, task, batch * task.num_heads * task.row_blocks, Shape::kThreads, Shape::kSharedBytes, stream,
             status);
}

template <class Element, int kHeadSize, RowsOf kRowsOf>
void launch_attention_of_size(const char* step, const AttentionTask& task, int64_t batch, cudaStream_t stream,
                              lat_status& status) {
  if constexpr (sizeof(Element) == 2) {
    const bool aligned = lies_on_16_bytes(task.query, 2) && lies_on_16_bytes(task.key, 2) &&
                         lies_on_16_bytes(task.value, 2) && lies_on_16_bytes(task.output, 2);
    if (aligned)
      return launch_attention_kernel<MmaAttentionShape<kHeadSize, kRowsOf>, kRowsOf>(
          step, mma_attention<Element, kHeadSize, kRowsOf>, task, batch, stream, status);
  }
  launch_attention_kernel<SimtAttentionShape<kHeadSize>, kRowsOf>(step, simt_attention<Element, kHeadSize, kRowsOf>,
                                                                  task, batch, stream, status);
}

template <class Element, RowsOf kRowsOf>
void launch_attention(const char* step, const AttentionTask& task, int64_t batch, int64_t head_size,
                      cudaStream_t stream, lat_status& status) {
  switch (head_size) {
    case 16:
      return launch_attention_of_size<Element, 16, kRowsOf>(step, task, batch, stream, status);
    case 32:
      return launch_attention_of_size<Element, 32, kRowsOf>(step, task, batch, stream, status);
    case 64:
      return launch_attention_of_size<Element, 64, kRowsOf>(step, task, batch, stream, status);
    default:
      return launch_attention_of_size<Element, 128, kRowsOf>(step, task, batch, stream, status);
  }
}

}  // namespace lat
