// The two entries of an op's CUDA form. An op says what is its own in a struct,
//
//     struct BandedWindowAttention : CudaAttentionOp<lat_banded_window_attention_args> {
//       struct Plan { Plan(const Args& args, Workspace& workspace); };  // sizes, and how the workspace is cut
//       template <class Element>
//       static void launch(const Args& args, const Plan& plan, cudaStream_t stream, lat_status& status);
//     };
//
// where Element is float, __half or __nv_bfloat16, and hands its C entries to cuda_workspace and cuda_run. Sizes are
// checked by the check_sizes of the op's arguments.h.
#pragma once

#include "common/cuda_dispatch.cuh"
#include "common/cuda_entry.h"

namespace lat {

// Of ops with query, key, value and output. Others, and those with limits on the device, say so in the functions'
// place.
template <class OpArgs>
struct CudaAttentionOp {
  using Args = OpArgs;
  // What the device limits, beyond the head size. Sizes are sound.
  static void check_limits(ArgumentCheck&, const Args&, lat_status&) {}
  static void check_pointers(ArgumentCheck& check, const Args& args) { check.attention_rows(args); }
};

template <class Op>
bool cuda_sizes_are_sound(const typename Op::Args* args, lat_status* status) {
  if (!cuda_entry_is_sound(args, status)) return false;
  ArgumentCheck check(*status);
  check_sizes(check, *args);
  check.elements("output", args->batch, args->tokens, args->width);
  check_cuda_head_size(args->width, args->num_heads, *status);
  if (check.passed()) Op::check_limits(check, *args, *status);
  return check.passed();
}

template <class Op>
int64_t cuda_workspace(const typename Op::Args* args, lat_status* status) {
  if (!cuda_sizes_are_sound<Op>(args, status)) return -1;
  Workspace workspace;
  typename Op::Plan(*args, workspace);
  return workspace.bytes();
}

template <class Op>
void cuda_run(const typename Op::Args* args, void* workspace, void* stream, lat_status* status) {
  if (!cuda_sizes_are_sound<Op>(args, status)) return;
  ArgumentCheck check(*status);
  Op::check_pointers(check, *args);
  check_cuda_call(workspace, *status);
  if (!check.passed()) return;
  Workspace parts(workspace);
  const typename Op::Plan plan(*args, parts);
  with_element(args->dtype, [&](auto element) {
    using Element = typename decltype(element)::Type;
    Op::template launch<Element>(*args, plan, static_cast<cudaStream_t>(stream), *status);
  });
}

}  // namespace lat
