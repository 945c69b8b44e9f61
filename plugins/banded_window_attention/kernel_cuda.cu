// Banded attention on CUDA devices.
#include "banded_window_attention/arguments.h"
#include "banded_window_attention/kernel.h"
#include "common/cuda_entry.h"

namespace lat {
namespace {

bool sizes_are_sound(const lat_banded_window_attention_args& args, lat_status& status) {
  ArgumentCheck check(status);
  check_sizes(check, args);
  check.elements("query", args.batch, args.tokens, args.width);
  check_cuda_head_size(args.width, args.num_heads, status);
  return check.passed();
}

}  // namespace
}  // namespace lat

int64_t lat_banded_window_attention_cuda_workspace(const lat_banded_window_attention_args* args, lat_status* status) {
  if (!lat::cuda_entry_is_sound(args, status) || !lat::sizes_are_sound(*args, *status)) return -1;
  lat::Workspace workspace;
  workspace.take<int32_t>(args->batch);
  workspace.take<int32_t>(args->batch * args->tokens);
  workspace.take<uint64_t>(args->batch * ((args->tokens + 63) / 64));
  return workspace.bytes();
}

void lat_banded_window_attention_cuda(const lat_banded_window_attention_args* args, void* workspace, void* stream,
                                      lat_status* status) {
  if (!lat::cuda_entry_is_sound(args, status) || !lat::sizes_are_sound(*args, *status)) return;
  lat::ArgumentCheck check(*status);
  check.attention_rows(*args);
  lat::check_cuda_call(workspace, *status);
  (void)stream;
  if (check.passed()) lat::fail(*status, LAT_UNSUPPORTED, "no kernel yet");
}
