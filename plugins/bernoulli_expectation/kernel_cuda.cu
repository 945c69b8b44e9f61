// Attention by expected collisions on CUDA devices, sm_80 and later: two launches, none of which the host waits for.
//   1. row_factors: one over the norm of each query and key, and words of key bits;
//   2. attention: one pass over the tiles of keys of each block of rows, then the norm of each output row.
// 16-bit elements run on the matrix units; float32, rows that do not lie on 16 bytes and codes of more than 16 bits
// without.
//
// Workspace, each part on 256 bytes, with T = N / 64 rounded up: uint64 key bits [B, T], float32 factors of queries
// [B, H, 64 T], and as many of keys.
#include "bernoulli_expectation/arguments.h"
#include "bernoulli_expectation/cuda_row_factors.cuh"
#include "bernoulli_expectation/kernel.h"
#include "common/cuda_attention_launch.cuh"
#include "common/cuda_collision_rate.cuh"

namespace lat {
namespace {

bool sizes_are_sound(const lat_bernoulli_expectation_args& args, lat_status& status) {
  ArgumentCheck check(status);
  check_sizes(check, args);
  check.elements("query", args.batch, args.tokens, args.width);
  check_cuda_head_size(args.width, args.num_heads, status);
  return check.passed();
}

// How the workspace is cut.
struct Plan {
  uint64_t* key_bits;
  float *query_factors, *key_factors;

  Plan(const lat_bernoulli_expectation_args& args, Workspace& workspace) {
    const int64_t tiles = tiles_of(args.tokens), factors = args.batch * args.num_heads * kTileKeys * tiles;
    key_bits = workspace.take<uint64_t>(args.batch * tiles);
    query_factors = workspace.take<float>(factors);
    key_factors = workspace.take<float>(factors);
  }
};

template <class Element>
void attend(const lat_bernoulli_expectation_args& args, const Plan& plan, cudaStream_t stream, lat_status& status) {
  FactorTask factors{};
  factors.query = args.query;
  factors.key = args.key;
  factors.attention_mask = args.attention_mask;
  factors.query_factors = plan.query_factors;
  factors.key_factors = plan.key_factors;
  factors.key_bits = plan.key_bits;
  factors.tokens = args.tokens;
  factors.width = args.width;
  factors.num_heads = args.num_heads;
  launch_row_factors<Element>(factors, args.batch, stream, status);

  CollisionTask task{};
  task.query = args.query;
  task.key = args.key;
  task.value = args.value;
  task.output = args.output;
  task.list.key_bits = plan.key_bits;
  task.tokens = static_cast<int32_t>(args.tokens);
  task.num_heads = static_cast<int32_t>(args.num_heads);
  task.window = task.tokens;
  task.query_factors = plan.query_factors;
  task.key_factors = plan.key_factors;
  task.set_exponent(args.hash_code_len, args.dtype == LAT_FLOAT16);
  launch_attention<Element, RowsOf::dense, CollisionRate>("attention by collisions", task, args.batch,
                                                          args.width / args.num_heads, stream, status);
}

}  // namespace
}  // namespace lat

int64_t lat_bernoulli_expectation_cuda_workspace(const lat_bernoulli_expectation_args* args, lat_status* status) {
  if (!lat::cuda_entry_is_sound(args, status) || !lat::sizes_are_sound(*args, *status)) return -1;
  lat::Workspace workspace;
  lat::Plan(*args, workspace);
  return workspace.bytes();
}

void lat_bernoulli_expectation_cuda(const lat_bernoulli_expectation_args* args, void* workspace, void* stream,
                                    lat_status* status) {
  if (!lat::cuda_entry_is_sound(args, status) || !lat::sizes_are_sound(*args, *status)) return;
  lat::ArgumentCheck check(*status);
  check.attention_rows(*args);
  lat::check_cuda_call(workspace, *status);
  if (!check.passed()) return;
  lat::Workspace parts(workspace);
  const lat::Plan plan(*args, parts);
  cudaStream_t const on = static_cast<cudaStream_t>(stream);
  if (args->dtype == LAT_FLOAT32)
    lat::attend<float>(*args, plan, on, *status);
  else if (args->dtype == LAT_FLOAT16)
    lat::attend<__half>(*args, plan, on, *status);
  else
    lat::attend<__nv_bfloat16>(*args, plan, on, *status);
}
