// Attention of the global rows on CUDA devices.
#include "common/cuda_entry.h"
#include "global_token_attention/arguments.h"
#include "global_token_attention/kernel.h"

namespace lat {
namespace {

bool sizes_are_sound(const lat_global_token_attention_args& args, lat_status& status) {
  ArgumentCheck check(status);
  check_sizes(check, args);
  check.elements("hidden_states", args.batch, args.tokens, args.width);
  check_cuda_head_size(args.width, args.num_heads, status);
  return check.passed();
}

}  // namespace
}  // namespace lat

int64_t lat_global_token_attention_cuda_workspace(const lat_global_token_attention_args* args, lat_status* status) {
  if (!lat::cuda_entry_is_sound(args, status) || !lat::sizes_are_sound(*args, *status)) return -1;
  return LAT_WORKSPACE_ALIGNMENT;
}

void lat_global_token_attention_cuda(const lat_global_token_attention_args* args, void* workspace, void* stream,
                                     lat_status* status) {
  if (!lat::cuda_entry_is_sound(args, status) || !lat::sizes_are_sound(*args, *status)) return;
  lat::ArgumentCheck check(*status);
  lat::check_pointers(check, *args);
  lat::check_cuda_call(workspace, *status);
  (void)stream;
  if (check.passed()) lat::fail(*status, LAT_UNSUPPORTED, "no kernel yet");
}
