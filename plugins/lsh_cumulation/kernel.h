/* lat::LshCumulation on the CPU and on CUDA devices: values summed by sampled hash collisions (YOSO).
 * The contract is exporter/lat_export/ops/lsh_cumulation.py. */
#ifndef LAT_LSH_CUMULATION_KERNEL_H
#define LAT_LSH_CUMULATION_KERNEL_H

#include "common/kernel_abi.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lat_lsh_cumulation_args {
  int64_t batch;                 /* B >= 1 */
  int64_t tokens;                /* N >= 1 */
  int64_t width;                 /* E = H * D */
  int64_t num_heads;             /* H, divides E */
  int64_t num_hash;              /* R >= 1 */
  int64_t hash_code_len;         /* T, 1 to 16 */
  int32_t dtype;                 /* lat_dtype of query, key, value, projection and output */
  lat_rows query, key, value;    /* [B, N, E], only read */
  lat_rows output;               /* [B, N, E], overlaps no input */
  const int32_t* attention_mask; /* [B, N] without gaps: 0 padding, anything else a token */
  const void* projection;        /* [H, D, R * T], the columns of one hash beside each other */
} lat_lsh_cumulation_args;

LAT_EXPORT void lat_lsh_cumulation_cpu(const lat_lsh_cumulation_args* args, const lat_parallel* parallel,
                                       lat_status* status);

/* D is 16, 32, 64 or 128, R at most 128, T at most 12, the device sm_80 or later. Workspace: 8 B H R N bytes and
 * 4 S B N E, where S shares of the hashes (at most 128 / (B H), and R) fill a device with B H too few; some rounding.
 */
LAT_EXPORT int64_t lat_lsh_cumulation_cuda_workspace(const lat_lsh_cumulation_args* args, lat_status* status);
LAT_EXPORT void lat_lsh_cumulation_cuda(const lat_lsh_cumulation_args* args, void* workspace, void* stream,
                                        lat_status* status);

#ifdef __cplusplus
}
#endif
#endif
