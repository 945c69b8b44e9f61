// Banded attention on CUDA devices, sm_80 and later: two launches, none of which the host waits for.
//   1. list_tokens: words of key bits and the list of global tokens, of each row of the batch;
//   2. attention: one pass over the tiles of keys of each block of rows, then over the listed globals.
// 16-bit elements run on the matrix units, float32 and rows that do not lie on 16 bytes without.
//
// Workspace, each part on 256 bytes: int32 counts [B], int32 positions [B, N], uint64 key bits [B, N / 64 rounded up].
#include "banded_window_attention/arguments.h"
#include "banded_window_attention/kernel.h"
#include "common/cuda_attention_launch.cuh"

namespace lat {
namespace {

constexpr float kLog2OfE = 1.44269504f;

bool sizes_are_sound(const lat_banded_window_attention_args& args, lat_status& status) {
  ArgumentCheck check(status);
  check_sizes(check, args);
  check.elements("query", args.batch, args.tokens, args.width);
  check_cuda_head_size(args.width, args.num_heads, status);
  return check.passed();
}

template <class Element>
void attend(const lat_banded_window_attention_args& args, const TokenList& list, cudaStream_t stream,
            lat_status& status) {
  AttentionTask task{};
  task.query = args.query;
  task.key = args.key;
  task.value = args.value;
  task.output = args.output;
  task.list = list;
  task.tokens = static_cast<int32_t>(args.tokens);
  task.num_heads = static_cast<int32_t>(args.num_heads);
  task.window = static_cast<int32_t>(args.window < args.tokens ? args.window : args.tokens);
  task.scale_log2 = args.scale * kLog2OfE;
  launch_attention<Element, RowsOf::sequence>("banded attention", task, args.batch, args.width / args.num_heads, stream,
                                              status);
}

}  // namespace
}  // namespace lat

int64_t lat_banded_window_attention_cuda_workspace(const lat_banded_window_attention_args* args, lat_status* status) {
  if (!lat::cuda_entry_is_sound(args, status) || !lat::sizes_are_sound(*args, *status)) return -1;
  lat::Workspace workspace;
  lat::take_token_list(workspace, args->batch, args->tokens);
  return workspace.bytes();
}

void lat_banded_window_attention_cuda(const lat_banded_window_attention_args* args, void* workspace, void* stream,
                                      lat_status* status) {
  if (!lat::cuda_entry_is_sound(args, status) || !lat::sizes_are_sound(*args, *status)) return;
  lat::ArgumentCheck check(*status);
  check.attention_rows(*args);
  lat::check_cuda_call(workspace, *status);
  if (!check.passed()) return;
  lat::Workspace parts(workspace);
  const lat::TokenList list = lat::take_token_list(parts, args->batch, args->tokens);
  cudaStream_t const on = static_cast<cudaStream_t>(stream);
  lat::launch_list_tokens<lat::KeyKinds::tokens>(args->attention_mask, args->batch, args->tokens, list, on, *status);
  if (args->dtype == LAT_FLOAT32)
    lat::attend<float>(*args, list, on, *status);
  else if (args->dtype == LAT_FLOAT16)
    lat::attend<__half>(*args, list, on, *status);
  else
    lat::attend<__nv_bfloat16>(*args, list, on, *status);
}
