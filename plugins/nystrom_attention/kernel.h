/* lat::NystromAttention (Nystroemformer): softmax attention through landmarks. See README.md. */
#ifndef LAT_NYSTROM_ATTENTION_KERNEL_H
#define LAT_NYSTROM_ATTENTION_KERNEL_H

#include "kernel_abi.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lat_nystrom_attention_args {
  int64_t batch, tokens, num_heads, head_size; /* B, N, H, D; each >= 1 */
  int64_t num_landmarks;                       /* L >= 1; N is a multiple */
  int64_t taps;                                /* K of conv_weight, odd; 0 where that is null */
  const void* query;                           /* (B, N, H * D), as all rows */
  const void* key;
  const void* value;
  const int32_t* attention_mask; /* (B, N): 0 padding, else token */
  const void* conv_weight;       /* (H, K), or null for no convolution */
  void* output;                  /* (B, N, H * D); overlaps no input */
  lat_dtype dtype;               /* of query, key, value, conv_weight and output */
  int32_t per_head_init; /* 0: the pseudo-inverse starts from one factor for the whole batch; 1: for each head */
} lat_nystrom_attention_args;

/* `parallel` may be null: then the caller's thread does all. `status` must not be. */
LAT_EXPORT void lat_nystrom_attention_cpu(const lat_nystrom_attention_args* args, const lat_parallel* parallel,
                                          lat_status* status);

/* The instruction set whose build calls use: scalar, avx2, avx512 or neon. */
LAT_EXPORT const char* lat_nystrom_attention_cpu_arch(void);

#ifdef __cplusplus
}
#endif
#endif
