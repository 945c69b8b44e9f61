// Full attention on CUDA devices, sm_80 and later: three launches at most, none of which the host waits for.
//   1. mark_keys: words of key bits; where a row of the batch has no token, all tokens are keys and count alike;
//   2. attention: one pass over the tiles of keys of each block of rows;
//   3. with `conv_weight`, the convolution of the values is added to the output, as it was rounded.
// 16-bit elements run on the matrix units, float32 and rows that do not lie on 16 bytes without.
//
// Workspace, each part on 256 bytes: int32 "any token" [B], uint64 key bits [B, N / 64 rounded up].
#include <cmath>

#include "common/cuda_attention_launch.cuh"
#include "common/cuda_key_bits.cuh"
#include "common/cuda_value_convolution.cuh"
#include "full_attention/arguments.h"
#include "full_attention/kernel.h"

namespace lat {
namespace {

constexpr float kLog2OfE = 1.44269504f;

bool sizes_are_sound(const lat_full_attention_args& args, lat_status& status) {
  ArgumentCheck check(status);
  check_sizes(check, args);
  check.elements("query", args.batch, args.tokens, args.width);
  check_cuda_head_size(args.width, args.num_heads, status);
  return check.passed();
}

// How the workspace is cut.
struct Plan {
  int32_t* any_token;
  uint64_t* key_bits;

  Plan(const lat_full_attention_args& args, Workspace& workspace)
      : any_token(workspace.take<int32_t>(args.batch)),
        key_bits(workspace.take<uint64_t>(args.batch * tiles_of(args.tokens))) {}
};

template <class Element>
void attend(const lat_full_attention_args& args, const Plan& plan, cudaStream_t stream, lat_status& status) {
  const int64_t head_size = args.width / args.num_heads;
  AttentionTask task{};
  task.query = args.query;
  task.key = args.key;
  task.value = args.value;
  task.output = args.output;
  task.list.key_bits = plan.key_bits;
  task.tokens = static_cast<int32_t>(args.tokens);
  task.num_heads = static_cast<int32_t>(args.num_heads);
  task.window = task.tokens;
  task.every_row = true;
  task.scale_log2 = kLog2OfE / std::sqrt(static_cast<float>(head_size));
  task.any_token = plan.any_token;
  launch_attention<Element, RowsOf::dense>("full attention", task, args.batch, head_size, stream, status);
  if (args.conv_weight == nullptr) return;

  ValueConvolutionTask convolution{};
  convolution.value = args.value;
  convolution.output = args.output;
  convolution.conv_weight = args.conv_weight;
  convolution.taps = args.taps;
  convolution.tokens = task.tokens;
  convolution.num_heads = task.num_heads;
  launch_add_value_convolution<Element>("convolution of the values", convolution, args.batch, head_size, stream,
                                        status);
}

}  // namespace
}  // namespace lat

int64_t lat_full_attention_cuda_workspace(const lat_full_attention_args* args, lat_status* status) {
  if (!lat::cuda_entry_is_sound(args, status) || !lat::sizes_are_sound(*args, *status)) return -1;
  lat::Workspace workspace;
  lat::Plan(*args, workspace);
  return workspace.bytes();
}

void lat_full_attention_cuda(const lat_full_attention_args* args, void* workspace, void* stream, lat_status* status) {
  if (!lat::cuda_entry_is_sound(args, status) || !lat::sizes_are_sound(*args, *status)) return;
  lat::ArgumentCheck check(*status);
  check.attention_rows(*args);
  lat::check_cuda_call(workspace, *status);
  if (!check.passed()) return;
  lat::Workspace parts(workspace);
  const lat::Plan plan(*args, parts);
  cudaStream_t const on = static_cast<cudaStream_t>(stream);
  lat::launch_mark_keys(args->attention_mask, args->batch, args->tokens, plan.any_token, plan.key_bits, on, *status);
  if (args->dtype == LAT_FLOAT32)
    lat::attend<float>(*args, plan, on, *status);
  else if (args->dtype == LAT_FLOAT16)
    lat::attend<__half>(*args, plan, on, *status);
  else
    lat::attend<__nv_bfloat16>(*args, plan, on, *status);
}
