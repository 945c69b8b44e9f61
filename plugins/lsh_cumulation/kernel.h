/* lat::LshCumulation (YOSO): values summed by sampled hash collisions. See README.md. */
#ifndef LAT_LSH_CUMULATION_KERNEL_H
#define LAT_LSH_CUMULATION_KERNEL_H

#include "kernel_abi.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lat_lsh_cumulation_args {
  int64_t batch, tokens, num_heads, head_size; /* B, N, H, D; each >= 1 */
  int64_t num_hash;                            /* R >= 1 */
  int64_t hash_code_len;                       /* T, 1 to 16 */
  const void* query;                           /* (B, N, H * D), as all rows */
  const void* key;
  const void* value;
  const int32_t* attention_mask; /* (B, N): 0 padding, else token */
  const void* projection;        /* (H, D, R * T), the columns of one hash beside each other */
  void* output;                  /* (B, N, H * D); overlaps no input */
  lat_dtype dtype;               /* of query, key, value, projection and output */
} lat_lsh_cumulation_args;

/* `parallel` may be null: then the caller's thread does all. `status` must not be. */
LAT_EXPORT void lat_lsh_cumulation_cpu(const lat_lsh_cumulation_args* args, const lat_parallel* parallel,
                                       lat_status* status);

/* The instruction set whose build calls use: scalar, avx2, avx512 or neon. */
LAT_EXPORT const char* lat_lsh_cumulation_cpu_arch(void);

#ifdef __cplusplus
}
#endif
#endif
