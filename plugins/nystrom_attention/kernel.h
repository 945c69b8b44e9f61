/* lat::NystromAttention on the CPU and on CUDA devices: softmax attention through landmarks (Nystroemformer).
 * The contract is exporter/lat_export/ops/nystrom_attention.py. */
#ifndef LAT_NYSTROM_ATTENTION_KERNEL_H
#define LAT_NYSTROM_ATTENTION_KERNEL_H

#include "common/kernel_abi.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lat_nystrom_attention_args {
  int64_t batch;              /* B >= 1 */
  int64_t tokens;             /* N >= 1 */
  int64_t width;              /* E = H * D */
  int64_t num_heads;          /* H, divides E */
  int64_t num_landmarks;      /* L >= 1, divides N */
  int64_t taps;               /* K of conv_weight, odd; not read where that is null */
  int32_t dtype;              /* lat_dtype of query, key, value, conv_weight and output */
  int32_t per_head_init;      /* 0: the pseudo-inverse starts from one factor for the whole batch; 1: for each head */
  lat_rows query, key, value; /* [B, N, E], only read */
  lat_rows output;            /* [B, N, E], overlaps no input */
  const int32_t* attention_mask; /* [B, N] without gaps: 0 padding, anything else a token */
  const void* conv_weight;       /* [H, K], or null for no convolution */
} lat_nystrom_attention_args;

LAT_EXPORT void lat_nystrom_attention_cpu(const lat_nystrom_attention_args* args, const lat_parallel* parallel,
                                          lat_status* status);

/* D is 16, 32, 64 or 128, L at most 128, the device sm_80 or later. Workspace, with H' = B * H, P = 64 or 128 and S
 * segments of the keys, at most 64: about 4 H' (P P * 3 + L D (S + 4)) bytes and B * N / 8. */
LAT_EXPORT int64_t lat_nystrom_attention_cuda_workspace(const lat_nystrom_attention_args* args, lat_status* status);
LAT_EXPORT void lat_nystrom_attention_cuda(const lat_nystrom_attention_args* args, void* workspace, void* stream,
                                           lat_status* status);

#ifdef __cplusplus
}
#endif
#endif
