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

#include "common/cuda_op.cuh"
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
struct Cut {
  int64_t head_size, heads, code_count, columns, slices, shares, lists, stride;
  int64_t most_sums;  // [N, E] sums that a call of at most this batch makes: more batch never needs less workspace

  explicit Cut(const lat_lsh_cumulation_args& args)
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

  Parts(const lat_lsh_cumulation_args& args, const Cut& cut, Workspace& workspace)
      : query_codes(workspace.take<uint16_t>(cut.lists * cut.stride)),
        key_codes(workspace.take<uint16_t>(cut.lists * cut.stride)),
        order(workspace.take<int32_t>(cut.lists * cut.stride)),
        kept(workspace.take<int32_t>(cut.lists)),
        sums(workspace.take<float>(cut.most_sums * args.tokens * args.width)) {}
};

// Shared memory that a block of threads may ask for on the device of this call.
int largest_shared_memory(lat_status& status) {
  int device = 0, bytes = 0;
  check_cuda("the current device", cudaGetDevice(&device), status);
  check_cuda("its shared memory", cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
             status);
  return bytes;
}

template <class Element>
void find_codes(const lat_lsh_cumulation_args& args, const Cut& cut, const Parts& parts, cudaStream_t stream,
                lat_status& status) {
  CodeTask task{};
  task.rows[CodeTask::kQueries] = args.query;
  task.rows[CodeTask::kKeys] = args.key;
  task.codes[CodeTask::kQueries] = parts.query_codes;
  task.codes[CodeTask::kKeys] = parts.key_codes;
  task.projection = args.projection;
  task.attention_mask = args.attention_mask;
  task.stride = cut.stride;
  task.tokens = static_cast<int32_t>(args.tokens);
  task.num_heads = static_cast<int32_t>(args.num_heads);
  task.num_hash = static_cast<int32_t>(args.num_hash);
  task.code_length = static_cast<int32_t>(args.hash_code_len);
  with_head_size(cut.head_size,
                 [&](auto size) { launch_codes<Element, size.value>(task, args.batch, stream, status); });
}

template <class Element>
void add_up(const lat_lsh_cumulation_args& args, const Cut& cut, const Parts& parts, cudaStream_t stream,
            lat_status& status) {
  TableTask task{};
  task.value = args.value;
  task.query_codes = parts.query_codes;
  task.key_codes = parts.key_codes;
  task.order = parts.order;
  task.kept = parts.kept;
  task.sums = parts.sums;
  task.stride = cut.stride;
  task.heads = cut.heads;
  task.tokens = static_cast<int32_t>(args.tokens);
  task.num_heads = static_cast<int32_t>(args.num_heads);
  task.num_hash = static_cast<int32_t>(args.num_hash);
  task.code_count = static_cast<int32_t>(cut.code_count);
  task.slices = static_cast<int32_t>(cut.slices);
  task.shares = static_cast<int32_t>(cut.shares);
  const int shared_bytes = largest_shared_memory(status);
  switch (cut.columns) {
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
void finish(const lat_lsh_cumulation_args& args, const Cut& cut, const Parts& parts, cudaStream_t stream,
            lat_status& status) {
  FinishTask task{};
  task.sums = parts.sums;
  task.attention_mask = args.attention_mask;
  task.output = args.output;
  task.rows = cut.heads * args.tokens;
  task.tokens = static_cast<int32_t>(args.tokens);
  task.num_heads = static_cast<int32_t>(args.num_heads);
  task.slices = static_cast<int32_t>(cut.slices);
  task.shares = static_cast<int32_t>(cut.shares);
  task.num_hash = static_cast<float>(args.num_hash);
  task.aligned = lies_on_16_bytes(args.output, sizeof(Element));
  with_head_size(cut.head_size, [&](auto size) { launch_finish<Element, size.value>(task, stream, status); });
}

struct LshCumulation : CudaAttentionOp<lat_lsh_cumulation_args> {
  struct Plan {
    Cut cut;
    Parts parts;

    Plan(const Args& args, Workspace& workspace) : cut(args), parts(args, cut, workspace) {}
  };

  static void check_limits(ArgumentCheck& check, const Args& args, lat_status& status) {
    check.elements("hash codes", args.batch, args.num_heads, args.num_hash, args.tokens + kStretchStep);
    if (check.passed() && args.hash_code_len > kMostCodeLength)
      fail(status, LAT_UNSUPPORTED, "hash_code_len: got T=%" PRId64 ", expected 1 to %" PRId64 " on CUDA devices",
           args.hash_code_len, kMostCodeLength);
    if (check.passed() && args.num_hash > kMostHashes)
      fail(status, LAT_UNSUPPORTED, "num_hash: got R=%" PRId64 ", expected 1 to %" PRId64 " on CUDA devices",
           args.num_hash, kMostHashes);
    if (check.passed()) check.elements("sums", Cut(args).most_sums, args.tokens, args.width);
  }

  static void check_pointers(ArgumentCheck& check, const Args& args) {
    check.attention_rows(args);
    check.pointer("projection", args.projection);
  }

  template <class Element>
  static void launch(const Args& args, const Plan& plan, cudaStream_t stream, lat_status& status) {
    find_codes<Element>(args, plan.cut, plan.parts, stream, status);
    OrderTask order{};
    order.codes = plan.parts.key_codes;
    order.order = plan.parts.order;
    order.kept = plan.parts.kept;
    order.stride = plan.cut.stride;
    order.tokens = static_cast<int32_t>(args.tokens);
    order.code_count = static_cast<int32_t>(plan.cut.code_count);
    launch_order(order, plan.cut.lists, stream, status);
    add_up<Element>(args, plan.cut, plan.parts, stream, status);
    finish<Element>(args, plan.cut, plan.parts, stream, status);
  }
};

}  // namespace
}  // namespace lat

int64_t lat_lsh_cumulation_cuda_workspace(const lat_lsh_cumulation_args* args, lat_status* status) {
  return lat::cuda_workspace<lat::LshCumulation>(args, status);
}

void lat_lsh_cumulation_cuda(const lat_lsh_cumulation_args* args, void* workspace, void* stream, lat_status* status) {
  lat::cuda_run<lat::LshCumulation>(args, workspace, stream, status);
}
