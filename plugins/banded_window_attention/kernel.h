/* lat::BandedWindowAttention on the CPU and on CUDA devices: softmax over a window of W tokens to either side and every
 * global token. The contract is exporter/lat_export/ops/banded_window_attention.py. */
#ifndef LAT_BANDED_WINDOW_ATTENTION_KERNEL_H
#define LAT_BANDED_WINDOW_ATTENTION_KERNEL_H

#include "common/kernel_abi.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lat_banded_window_attention_args {
  int64_t batch;                 /* B >= 1 */
  int64_t tokens;                /* N >= 1 */
  int64_t width;                 /* E = H * D */
  int64_t num_heads;             /* H, divides E */
  int64_t window;                /* W >= 1, one-sided */
  float scale;                   /* > 0, factor on every score */
  int32_t dtype;                 /* lat_dtype of query, key, value and output */
  int32_t allow_tf32;            /* 0 or 1: on CUDA devices float32 operands of products may be rounded to TF32 */
  lat_rows query, key, value;    /* [B, N, E], only read */
  lat_rows output;               /* [B, N, E], overlaps no input */
  const int32_t* attention_mask; /* [B, N] without gaps: 0 padding, 1 token, 2 global token */
} lat_banded_window_attention_args;

LAT_EXPORT void lat_banded_window_attention_cpu(const lat_banded_window_attention_args* args,
                                                const lat_parallel* parallel, lat_status* status);

/* D is 16, 32, 64 or 128, the device sm_80 or later. Workspace: 256 B + B * (4 N + N / 8) bytes and some rounding. */
LAT_EXPORT int64_t lat_banded_window_attention_cuda_workspace(const lat_banded_window_attention_args* args,
                                                              lat_status* status);
LAT_EXPORT void lat_banded_window_attention_cuda(const lat_banded_window_attention_args* args, void* workspace,
                                                 void* stream, lat_status* status);

#ifdef __cplusplus
}
#endif
#endif
