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
#include "common/cuda_op.cuh"
#include "common/cuda_value_convolution.cuh"
#include "full_attention/arguments.h"
#include "full_attention/kernel.h"

namespace lat {
namespace {

struct FullAttention : CudaAttentionOp<lat_full_attention_args> {
  struct Plan {
    int32_t* any_token;
    uint64_t* key_bits;

    Plan(const Args& args, Workspace& workspace)
        : any_token(workspace.take<int32_t>(args.batch)),
          key_bits(workspace.take<uint64_t>(args.batch * tiles_of(args.tokens))) {}
  };

  template <class Element>
  static void launch(const Args& args, const Plan& plan, cudaStream_t stream, lat_status& status) {
    launch_mark_keys(args.attention_mask, args.batch, args.tokens, plan.any_token, plan.key_bits, stream, status);
    const int64_t head_size = args.width / args.num_heads;
    auto task = attention_task_of<AttentionTask>(args);
    task.list.key_bits = plan.key_bits;
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
};

}  // namespace
}  // namespace lat

int64_t lat_full_attention_cuda_workspace(const lat_full_attention_args* args, lat_status* status) {
  return lat::cuda_workspace<lat::FullAttention>(args, status);
}

void lat_full_attention_cuda(const lat_full_attention_args* args, void* workspace, void* stream, lat_status* status) {
  lat::cuda_run<lat::FullAttention>(args, workspace, stream, status);
}
