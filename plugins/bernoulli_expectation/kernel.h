/* lat::BernoulliExpectation on the CPU and on CUDA devices: values weighted by the expected rate of hash collisions
 * (YOSO-E). The contract is exporter/lat_export/ops/bernoulli_expectation.py. */
#ifndef LAT_BERNOULLI_EXPECTATION_KERNEL_H
#define LAT_BERNOULLI_EXPECTATION_KERNEL_H

#include "common/kernel_abi.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lat_bernoulli_expectation_args {
  int64_t batch;                 /* B >= 1 */
  int64_t tokens;                /* N >= 1 */
  int64_t width;                 /* E = H * D */
  int64_t num_heads;             /* H, divides E */
  int64_t hash_code_len;         /* T >= 1 */
  int32_t dtype;                 /* lat_dtype of query, key, value and output */
  lat_rows query, key, value;    /* [B, N, E], only read */
  lat_rows output;               /* [B, N, E], overlaps no input */
  const int32_t* attention_mask; /* [B, N] without gaps: 0 padding, anything else a token */
} lat_bernoulli_expectation_args;

LAT_EXPORT void lat_bernoulli_expectation_cpu(const lat_bernoulli_expectation_args* args, const lat_parallel* parallel,
                                              lat_status* status);

/* D is 16, 32, 64 or 128, the device sm_80 or later. Workspace: B * (8 H + 1 / 8) bytes a token and some rounding. */
LAT_EXPORT int64_t lat_bernoulli_expectation_cuda_workspace(const lat_bernoulli_expectation_args* args,
                                                            lat_status* status);
LAT_EXPORT void lat_bernoulli_expectation_cuda(const lat_bernoulli_expectation_args* args, void* workspace,
                                               void* stream, lat_status* status);

#ifdef __cplusplus
}
#endif
#endif
