// Sampled hash collisions on CUDA devices, sm_80 and later: four launches, none of which the host waits for.
//   1. hash codes of queries and keys, from products with the projection (cuda_codes.cuh);
//   2. the keys of each hash in the order of their codes (cuda_order.cuh);
//   3. tables of summed values in shared memory, read by every query (cuda_tables.cuh);
//   4. the mean over hashes, divided by its norm.
//
// Workspace, each part on 256 bytes, with N' = N rounded up to 8: codes of queries and of keys, uint16 [B, H, R, N']
// each; keys in order, int32 [B, H, R, N']; how many are kept, int32 [B, H, R]; sums, float32 [S, B, N, E] with S
// shares of the hashes: 1 where B H D is large, and never more than S B = 128 / H otherwise.
#include <cinttypes>

#include "lsh_cumulation/arguments.h"
#include "lsh_cumulation/cuda_codes.cuh"
#include "lsh_cumulation/cuda_order.cuh"
#include "lsh_cumulation/cuda_tables.cuh"

namespace lat {
namespace {

constexpr int64_t kMostCodeLength = 12, kMostHashes = 128;
constexpr int64_t kTableFloats = 8192;    // of a table, where 4 columns are not more already
constexpr int64_t kBlocksOfTables = 128;  // fewer are made more by sharing out the hashes

// How a call is cut; hangs on sizes and attributes alone.
struct Plan {
  int64_t head_size, heads, code_count, columns, slices, shares, lists, stride;
  int64_t most_sums;  // [N, E] sums that a call of at most this batch makes: more batch never needs less workspace

  explicit Plan(const lat_lsh_cumulation_args& args)
      : head_size(args.width / args.num_heads),
        heads(args.batch * args.num_heads),
        code_count(int64_t{1} << args.hash_code_len),
        lists(heads * args.num_hash),
        stride((args.tokens + kStretchStep - 1) / kStretchStep * kStretchStep) {
    columns = kTableFloats / code_count < 4 ? 4 : kTableFloats / code_count;
    columns = columns > 32 ? 32 : columns;
    columns = columns > head_size ? head_size : columns;
    slices = head_size / columns;
    shares = kBlocksOfTables / (heads * slices);
    shares = shares < 1 ? 1 : shares > args.num_hash ? args.num_hash : shares;
    most_sums = kBlocksOfTables / (args.num_heads * slices);
    most_sums = most_sums > args.batch * args.num_hash ? args.batch * args.num_hash : most_sums;
    most_sums = most_sums < args.batch ? args.batch : most_sums;
  }
};

struct Parts {
  uint16_t *query_codes, *key_codes;
  int32_t *order, *kept;
  float* sums;

  Parts(const lat_lsh_cumulation_args& args, const Plan& plan, Workspace& workspace)
      : query_codes(workspace.take<uint16_t>(plan.lists * plan.stride)),
        key_codes(workspace.take<uint16_t>(plan.lists * plan.stride)),
        order(workspace.take<int32_t>(plan.lists * plan.stride)),
        kept(workspace.take<int32_t>(plan.lists)),
        sums(workspace.take<float>(plan.most_sums * args.tokens * args.width)) {}
};

bool sizes_are_sound(const lat_lsh_cumulation_args& args, lat_status& status) {
  ArgumentCheck check(status);
  check_sizes(check, args);
  check.elements("query", args.batch, args.tokens, args.width);
  check.elements("hash codes", args.batch, args.num_heads, args.num_hash, args.tokens + kStretchStep);
  check_cuda_head_size(args.width, args.num_heads, status);
  if (check.passed() && args.hash_code_len > kMostCodeLength)
    fail(status, LAT_UNSUPPORTED, "hash_code_len: got T=%" PRId64 ", expected 1 to %" PRId64 " on CUDA devices",
         args.hash_code_len, kMostCodeLength);
  if (check.passed() && args.num_hash > kMostHashes)
    fail(status, LAT_UNSUPPORTED, "num_hash: got R=%" PRId64 ", expected 1 to %" PRId64 " on CUDA devices",
         args.num_hash, kMostHashes);
  if (check.passed()) check.elements("sums", Plan(args).most_sums, args.tokens, args.width);
  return check.passed();
}

// Shared memory that a block of threads may ask for on the device of this call.
int largest_shared_memory(lat_status& status) {
  int device = 0, bytes = 0;
  check_cuda("the current device", cudaGetDevice(&device), status);
  check_cuda("its shared memory", cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
             status);
  return bytes;
}

template <class Element>
void find_codes(const lat_lsh_cumulation_args& args, const Plan& plan, const Parts& parts, cudaStream_t stream,
                lat_status& status) {
  CodeTask task{};
  task.rows[CodeTask::kQueries] = args.query;
  task.rows[CodeTask::kKeys] = args.key;
  task.codes[CodeTask::kQueries] = parts.query_codes;
  task.codes[CodeTask::kKeys] = parts.key_codes;
  task.projection = args.projection;
  task.attention_mask = args.attention_mask;
  task.stride = plan.stride;
  task.tokens = static_cast<int32_t>(args.tokens);
  task.num_heads = static_cast<int32_t>(args.num_heads);
  task.num_hash = static_cast<int32_t>(args.num_hash);
  task.code_length = static_cast<int32_t>(args.hash_code_len);
  switch (plan.head_size) {
    case 16:
      return launch_codes<Element, 16>(task, args.batch, stream, status);
    case 32:
      return launch_codes<Element, 32>(task, args.batch, stream, status);
    case 64:
      return launch_codes<Element, 64>(task, args.batch, stream, status);
    default:
      return launch_codes<Element, 128>(task, args.batch, stream, status);
  }
}

template <class Element>
void add_up(const lat_lsh_cumulation_args& args, const Plan& plan, const Parts& parts, cudaStream_t stream,
            lat_status& status) {
  TableTask task{};
  task.value = args.value;
  task.query_codes = parts.query_codes;
  task.key_codes = parts.key_codes;
  task.order = parts.order;
  task.kept = parts.kept;
  task.sums = parts.sums;
  task.stride = plan.stride;
  task.heads = plan.heads;
  task.tokens = static_cast<int32_t>(args.tokens);
  task.num_heads = static_cast<int32_t>(args.num_heads);
  task.num_hash = static_cast<int32_t>(args.num_hash);
  task.code_count = static_cast<int32_t>(plan.code_count);
  task.slices = static_cast<int32_t>(plan.slices);
  task.shares = static_cast<int32_t>(plan.shares);
  const int shared_bytes = largest_shared_memory(status);
  switch (plan.columns) {
    case 4:
      return launch_tables<Element, 4>(task, shared_bytes, stream, status);
    case 8:
      return launch_tables<Element, 8>(task, shared_bytes, stream, status);
    case 16:
      return launch_tables<Element, 16>(task, shared_bytes, stream, status);
    default:
      return launch_tables<Element, 32>(task, shared_bytes, stream, status);
  }
}

template <class Element>
void finish(const lat_lsh_cumulation_args& args, const Plan& plan, const Parts& parts, cudaStream_t stream,
            lat_status& status) {
  FinishTask task{};
  task.sums = parts.sums;
  task.attention_mask = args.attention_mask;
  task.output = args.output;
  task.rows = plan.heads * args.tokens;
  task.tokens = static_cast<int32_t>(args.tokens);
  task.num_heads = static_cast<int32_t>(args.num_heads);
  task.slices = static_cast<int32_t>(plan.slices);
  task.shares = static_cast<int32_t>(plan.shares);
  task.num_hash = static_cast<float>(args.num_hash);
  task.aligned = lies_on_16_bytes(args.output, sizeof(Element));
  switch (plan.head_size) {
    case 16:
      return launch_finish<Element, 16>(task, stream, status);
    case 32:
      return launch_finish<Element, 32>(task, stream, status);
    case 64:
      return launch_finish<Element, 64>(task, stream, status);
    default:
      return launch_finish<Element, 128>(task, stream, status);
  }
}

template <class Element>
void cumulate(const lat_lsh_cumulation_args& args, const Plan& plan, const Parts& parts, cudaStream_t stream,
              lat_status& status) {
  find_codes<Element>(args, plan, parts, stream, status);
  OrderTask order{};
  order.codes = parts.key_codes;
  order.order = parts.order;
  order.kept = parts.kept;
  order.stride = plan.stride;
  order.tokens = static_cast<int32_t>(args.tokens);
  order.code_count = static_cast<int32_t>(plan.code_count);
  launch_order(order, plan.lists, stream, status);
  add_up<Element>(args, plan, parts, stream, status);
  finish<Element>(args, plan, parts, stream, status);
}

}  // namespace
}  // namespace lat

int64_t lat_lsh_cumulation_cuda_workspace(const lat_lsh_cumulation_args* args, lat_status* status) {
  if (!lat::cuda_entry_is_sound(args, status) || !lat::sizes_are_sound(*args, *status)) return -1;
  lat::Workspace workspace;
  lat::Parts(*args, lat::Plan(*args), workspace);
  return workspace.bytes();
}

void lat_lsh_cumulation_cuda(const lat_lsh_cumulation_args* args, void* workspace, void* stream, lat_status* status) {
  if (!lat::cuda_entry_is_sound(args, status) || !lat::sizes_are_sound(*args, *status)) return;
  lat::ArgumentCheck check(*status);
  check.attention_rows(*args);
  check.pointer("projection", args->projection);
  lat::check_cuda_call(workspace, *status);
  if (!check.passed()) return;
  const lat::Plan plan(*args);
  lat::Workspace pieces(workspace);
  const lat::Parts parts(*args, plan, pieces);
  cudaStream_t const on = static_cast<cudaStream_t>(stream);
  if (args->dtype == LAT_FLOAT32)
    lat::cumulate<float>(*args, plan, parts, on, *status);
  else if (args->dtype == LAT_FLOAT16)
    lat::cumulate<__half>(*args, plan, parts, on, *status);
  else
    lat::cumulate<__nv_bfloat16>(*args, plan, parts, on, *status);
}
