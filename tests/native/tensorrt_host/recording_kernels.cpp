// Test doubles of the CUDA kernels: they check sizes as the kernels do, compute
// nothing and record what they were given.
#include <cstdio>
#include <cstring>

#include "banded_window_attention/arguments.h"
#include "banded_window_attention/kernel.h"
#include "bernoulli_expectation/arguments.h"
#include "bernoulli_expectation/kernel.h"
#include "full_attention/arguments.h"
#include "full_attention/kernel.h"
#include "global_token_attention/arguments.h"
#include "global_token_attention/kernel.h"
#include "lsh_cumulation/arguments.h"
#include "lsh_cumulation/kernel.h"
#include "nystrom_attention/arguments.h"
#include "nystrom_attention/kernel.h"
#include "recording.h"

namespace {

template <class Args>
int64_t workspace_bytes(const Args &args, lat_status &status) {
  lat::succeed(status);
  lat::ArgumentCheck check(status);
  lat::check_sizes(check, args);
  if (check.passed() && args.width / args.num_heads > 128)
    lat::fail(status, LAT_UNSUPPORTED, "head size: got D=%d",
              static_cast<int>(args.width / args.num_heads));
  // Hangs on every size, so that the host can tell at which it was asked.
  return check.passed() ? static_cast<int64_t>(sizeof(Recording)) +
                              args.batch * 1000000 + args.tokens
                        : -1;
}

template <class Args>
void record(const char *entry, const Args &args, void *workspace, void *stream,
            lat_status &status) {
  static_assert(sizeof(Args) <= sizeof(Recording::args));
  if (workspace_bytes(args, status) < 0)
    return;
  if (stream == failing_stream()) {
    lat::fail(status, LAT_DEVICE_ERROR, "CUDA, launch: it said no");
    return;
  }
  Recording recording{};
  std::snprintf(recording.entry, sizeof recording.entry, "%s", entry);
  recording.workspace = workspace;
  recording.stream = stream;
  recording.args_bytes = sizeof args;
  std::memcpy(recording.args, &args, sizeof args);
  std::memcpy(workspace, &recording, sizeof recording);
}

} // namespace

#define LAT_RECORDING_KERNEL(op)                                               \
  int64_t lat_##op##_cuda_workspace(const lat_##op##_args *args,               \
                                    lat_status *status) {                      \
    return workspace_bytes(*args, *status);                                    \
  }                                                                            \
  void lat_##op##_cuda(const lat_##op##_args *args, void *workspace,           \
                       void *stream, lat_status *status) {                     \
    record(#op, *args, workspace, stream, *status);                            \
  }

LAT_RECORDING_KERNEL(banded_window_attention)
LAT_RECORDING_KERNEL(bernoulli_expectation)
LAT_RECORDING_KERNEL(full_attention)
LAT_RECORDING_KERNEL(global_token_attention)
LAT_RECORDING_KERNEL(lsh_cumulation)
LAT_RECORDING_KERNEL(nystrom_attention)
