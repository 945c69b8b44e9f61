// The kernel for an element type, a head size, a weighting and how rows lie in memory.
#pragma once

#include "common/cuda_dispatch.cuh"
#include "common/cuda_mma_attention.cuh"
#include "common/cuda_simt_attention.cuh"
#include "common/cuda_softmax.cuh"

namespace lat {

template <class Shape, RowsOf kRowsOf, class Task>
void launch_attention_kernel(const char* step, void (*kernel)(Task), Task task, int64_t batch, cudaStream_t stream,
                             lat_status& status) {
  task.row_blocks = row_blocks<kRowsOf>(task.tokens, Shape::kRows);
  launch_all(step, kernel, task, batch * task.num_heads * task.row_blocks, Shape::kThreads, Shape::kSharedBytes, stream,
             status);
}

template <class Element, int kHeadSize, RowsOf kRowsOf, int kRowTiles, class Weighting>
void launch_mma_attention(const char* step, const typename Weighting::Task& task, int64_t batch, cudaStream_t stream,
                          lat_status& status) {
  launch_attention_kernel<MmaAttentionShape<Element, kHeadSize, kRowTiles, Weighting>, kRowsOf>(
      step, mma_attention<Element, kHeadSize, kRowsOf, kRowTiles, Weighting>, task, batch, stream, status);
}

template <class Element, int kHeadSize, RowsOf kRowsOf, class Weighting>
void launch_attention_of_size(const char* step, const typename Weighting::Task& task, int64_t batch,
                              cudaStream_t stream, lat_status& status) {
  if constexpr (sizeof(Element) == 2) {
    if (all_lie_on_16_bytes(task) && Weighting::on_matrix_units(task)) {
      constexpr int kRowTiles = kMostRowTiles<kHeadSize, kRowsOf>;
      // Rows that all see as much are cut finer where blocks of 128 would not give each multiprocessor two.
      if constexpr (kRowsOf == RowsOf::dense && kRowTiles > 1) {
        using Shape = MmaAttentionShape<Element, kHeadSize, kRowTiles, Weighting>;
        const int64_t blocks = batch * task.num_heads * row_blocks<kRowsOf>(task.tokens, Shape::kRows);
        if (blocks < 2 * multiprocessors(status))
          return launch_mma_attention<Element, kHeadSize, kRowsOf, 1, Weighting>(step, task, batch, stream, status);
      }
      return launch_mma_attention<Element, kHeadSize, kRowsOf, kRowTiles, Weighting>(step, task, batch, stream, status);
    }
  }
  launch_attention_kernel<SimtAttentionShape<kHeadSize>, kRowsOf>(
      step, simt_attention<Element, kHeadSize, kRowsOf, Weighting>, task, batch, stream, status);
}

template <class Element, RowsOf kRowsOf, class Weighting = Softmax>
void launch_attention(const char* step, const typename Weighting::Task& task, int64_t batch, int64_t head_size,
                      cudaStream_t stream, lat_status& status) {
  with_head_size(head_size, [&](auto size) {
    launch_attention_of_size<Element, size.value, kRowsOf, Weighting>(step, task, batch, stream, status);
  });
}

// Of float32 on the matrix units: operands of both products are rounded to TF32. All rows lie on 16 bytes.
template <RowsOf kRowsOf, class Weighting = Softmax>
void launch_tf32_attention(const char* step, const typename Weighting::Task& task, int64_t batch, int64_t head_size,
                           cudaStream_t stream, lat_status& status) {
  with_head_size(head_size, [&](auto size) {
    launch_mma_attention<float, size.value, kRowsOf, kMostRowTiles<size.value, kRowsOf>, Weighting>(step, task, batch,
                                                                                                    stream, status);
  });
}

}  // namespace lat
