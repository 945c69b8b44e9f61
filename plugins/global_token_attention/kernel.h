/* lat::GlobalTokenAttention on the CPU and on CUDA devices: rows of global tokens attend to the whole sequence, with
 * projections of their own. The contract is exporter/lat_export/ops/global_token_attention.py. */
#ifndef LAT_GLOBAL_TOKEN_ATTENTION_KERNEL_H
#define LAT_GLOBAL_TOKEN_ATTENTION_KERNEL_H

#include "common/kernel_abi.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum lat_global_token_form {
  LAT_BY_COST = 0,            /* for each row of the batch, the cheaper of the two */
  LAT_FROM_HIDDEN_STATES = 1, /* no key or value of the sequence is made: about 4 H G N E operations */
  LAT_FULL_PROJECTIONS = 2    /* keys and values of all tokens: about 4 N E (E + G) operations */
} lat_global_token_form;

typedef struct lat_global_token_attention_args {
  int64_t batch;                         /* B >= 1 */
  int64_t tokens;                        /* N >= 1 */
  int64_t width;                         /* E = H * D */
  int64_t num_heads;                     /* H, divides E */
  float scale;                           /* > 0, factor on every score */
  int32_t dtype;                         /* lat_dtype of activations, weights and output */
  int32_t form;                          /* lat_global_token_form */
  lat_rows hidden_states;                /* [B, N, E], only read */
  lat_rows output;                       /* [B, N, E], overlaps no input; rows of other tokens become 0 */
  const int32_t* attention_mask;         /* [B, N] without gaps: 0 padding, 1 token, 2 global token */
  const void *query_weight, *query_bias; /* [E, E] out x in, and [E]; likewise the others; the key's bias drops out */
  const void* key_weight;
  const void *value_weight, *value_bias;
} lat_global_token_attention_args;

LAT_EXPORT void lat_global_token_attention_cpu(const lat_global_token_attention_args* args,
                                               const lat_parallel* parallel, lat_status* status);

/* D is 16, 32, 64 or 128, the device sm_80 or later. The number of globals is known on the device alone, which chooses
 * the form for each row of the batch: from the hidden states up to LAT_CUDA_MOST_PROBES = H * G, or, with `form`
 * LAT_FULL_PROJECTIONS, never; beyond that, full projections, whatever `form` says.
 * Workspace: that of the larger form, so about 3 B N E elements; the header of kernel_cuda.cu has the formula. */
enum { LAT_CUDA_MOST_PROBES = 64 };
LAT_EXPORT int64_t lat_global_token_attention_cuda_workspace(const lat_global_token_attention_args* args,
                                                             lat_status* status);
LAT_EXPORT void lat_global_token_attention_cuda(const lat_global_token_attention_args* args, void* workspace,
                                                void* stream, lat_status* status);

#ifdef __cplusplus
}
#endif
#endif
