// Banded attention on CUDA devices, sm_80 and later: two launches, none of which the host waits for.
//   1. list_tokens: words of key bits and the list of global tokens, of each row of the batch;
//   2. attention: one pass over the tiles of keys of each block of rows, then over the listed globals.
// 16-bit elements run on the matrix units, and float32 with `allow_tf32` does, rounded to TF32 where it is multiplied;
// float32 without it and rows that do not lie on 16 bytes run without.
//
// Workspace, each part on 256 bytes: int32 counts [B], int32 positions [B, N], uint64 key bits [B, N / 64 rounded up].
#include <type_traits>

#include "banded_window_attention/arguments.h"
#include "banded_window_attention/kernel.h"
#include "common/cuda_attention_launch.cuh"
#include "common/cuda_op.cuh"

namespace lat {
namespace {

struct BandedWindowAttention : CudaAttentionOp<lat_banded_window_attention_args> {
  struct Plan {
    TokenList list;

    Plan(const Args& args, Workspace& workspace) : list(take_token_list(workspace, args.batch, args.tokens)) {}
  };

  template <class Element>
  static void launch(const Args& args, const Plan& plan, cudaStream_t stream, lat_status& status) {
    launch_list_tokens<KeyKinds::tokens>(args.attention_mask, args.batch, args.tokens, plan.list, stream, status);
    auto task = attention_task_of<AttentionTask>(args);
    task.list = plan.list;
    task.window = static_cast<int32_t>(args.window < args.tokens ? args.window : args.tokens);
    task.scale_log2 = args.scale * kLog2OfE;
    const int64_t head_size = args.width / args.num_heads;
    if constexpr (std::is_same_v<Element, float>) {
      if (args.allow_tf32 != 0 && all_lie_on_16_bytes(task, sizeof(float)))
        return launch_tf32_attention<RowsOf::sequence>("banded attention in TF32", task, args.batch, head_size, stream,
                                                       status);
    }
    launch_attention<Element, RowsOf::sequence>("banded attention", task, args.batch, head_size, stream, status);
  }
};

}  // namespace
}  // namespace lat

int64_t lat_banded_window_attention_cuda_workspace(const lat_banded_window_attention_args* args, lat_status* status) {
  return lat::cuda_workspace<lat::BandedWindowAttention>(args, status);
}

void lat_banded_window_attention_cuda(const lat_banded_window_attention_args* args, void* workspace, void* stream,
                                      lat_status* status) {
  lat::cuda_run<lat::BandedWindowAttention>(args, workspace, stream, status);
}
