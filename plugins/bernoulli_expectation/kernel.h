/* lat::BernoulliExpectation (YOSO-E): values weighted by the expected rate of hash collisions. See README.md. */
#ifndef LAT_BERNOULLI_EXPECTATION_KERNEL_H
#define LAT_BERNOULLI_EXPECTATION_KERNEL_H

#include "kernel_abi.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lat_bernoulli_expectation_args {
  int64_t batch, tokens, num_heads, head_size; /* B, N, H, D; each >= 1 */
  int64_t hash_code_len;                       /* T >= 1 */
  const void* query;                           /* (B, N, H * D), as all rows */
  const void* key;
  const void* value;
  const int32_t* attention_mask; /* (B, N): 0 padding, else token */
  void* output;                  /* (B, N, H * D); overlaps no input */
  lat_dtype dtype;               /* of query, key, value and output */
} lat_bernoulli_expectation_args;

/* `parallel` may be null: then the caller's thread does all. `status` must not be. */
LAT_EXPORT void lat_bernoulli_expectation_cpu(const lat_bernoulli_expectation_args* args, const lat_parallel* parallel,
                                              lat_status* status);

/* The instruction set whose build calls use: scalar, avx2, avx512 or neon. */
LAT_EXPORT const char* lat_bernoulli_expectation_cpu_arch(void);

#ifdef __cplusplus
}
#endif
#endif
