/* lat::FullAttention on the CPU and on CUDA devices: softmax over every token, and a convolution of the values (exact
 * Nystroemformer). The contract is exporter/lat_export/ops/full_attention.py. */
#ifndef LAT_FULL_ATTENTION_KERNEL_H
#define LAT_FULL_ATTENTION_KERNEL_H

#include "common/kernel_abi.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lat_full_attention_args {
  int64_t batch;                 /* B >= 1 */
  int64_t tokens;                /* N >= 1 */
  int64_t width;                 /* E = H * D */
  int64_t num_heads;             /* H, divides E */
  int64_t taps;                  /* K of conv_weight, odd; not read where that is null */
  int32_t dtype;                 /* lat_dtype of query, key, value, conv_weight and output */
  lat_rows query, key, value;    /* [B, N, E], only read */
  lat_rows output;               /* [B, N, E], overlaps no input */
  const int32_t* attention_mask; /* [B, N] without gaps: 0 padding, anything else a token */
  const void* conv_weight;       /* [H, K], or null for no convolution */
} lat_full_attention_args;

LAT_EXPORT void lat_full_attention_cpu(const lat_full_attention_args* args, const lat_parallel* parallel,
                                       lat_status* status);

/* D is 16, 32, 64 or 128, the device sm_80 or later. Workspace: 4 B + B N / 8 bytes and some rounding. */
LAT_EXPORT int64_t lat_full_attention_cuda_workspace(const lat_full_attention_args* args, lat_status* status);
LAT_EXPORT void lat_full_attention_cuda(const lat_full_attention_args* args, void* workspace, void* stream,
                                        lat_status* status);

#ifdef __cplusplus
}
#endif
#endif
