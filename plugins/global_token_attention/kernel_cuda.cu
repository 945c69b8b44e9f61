// Attention of the global rows on CUDA devices, sm_80 and later. How many globals a row of the batch has is known on
// the device alone, so every launch is made for the most there can be, and blocks of threads that have nothing to do
// leave:
//   1. list_tokens: words of key bits and the list of global tokens, of each row of the batch;
//   2. clear: zeros for the rows of all other tokens;
//   3. queries of the listed rows;
//   then for rows of the batch with at most LAT_CUDA_MOST_PROBES / H globals (none with `form` LAT_FULL_PROJECTIONS)
//   4. make_probes, mix_chunk, join_chunks: from the hidden states (cuda_probes.cuh);
//   and for those with more
//   5. keys and values of the whole sequence, and attention of the listed rows over them.
// Queries, keys and values are rounded to the element type between the steps, as PyTorch's are; all sums are float32.
//
// Workspace, with S the bytes of an element, P = H * min(N, LAT_CUDA_MOST_PROBES / H), T = N / 64 rounded up and
// C = min(T, 64), each part on 256 bytes: int32 counts [B], int32 positions [B, N], uint64 key bits [B, T], queries
// [B, N, E], and for each row of the batch the larger of keys and values, 2 N E S, and of 4 (P E + C P (E + 2)) bytes.
#include "common/cuda_attention_launch.cuh"
#include "common/cuda_op.cuh"
#include "common/cuda_product.cuh"
#include "global_token_attention/arguments.h"
#include "global_token_attention/cuda_probes.cuh"
#include "global_token_attention/kernel.h"

namespace lat {
namespace {

// How the workspace is cut.
struct GlobalPlan {
  int64_t tokens, width, element_bytes, most_globals, most_probes, chunks, row_bytes;
  TokenList list;
  unsigned char* query;  // [B, N, E]
  unsigned char* rows;   // [B] of row_bytes: keys and values, or probes and what becomes of them

  GlobalPlan(const lat_global_token_attention_args& args, Workspace& workspace)
      : tokens(args.tokens), width(args.width), element_bytes(args.dtype == LAT_FLOAT32 ? 4 : 2) {
    most_globals = args.form == LAT_FULL_PROJECTIONS ? 0 : LAT_CUDA_MOST_PROBES / args.num_heads;
    most_globals = most_globals < tokens ? most_globals : tokens;
    most_probes = most_globals * args.num_heads;
    chunks = tiles_of(tokens) < kMostChunks ? tiles_of(tokens) : kMostChunks;
    const int64_t full = 2 * tokens * width * element_bytes, probes = 4 * most_probes * (width + chunks * (width + 2));
    row_bytes = full > probes ? full : probes;
    row_bytes = (row_bytes + LAT_WORKSPACE_ALIGNMENT - 1) / LAT_WORKSPACE_ALIGNMENT * LAT_WORKSPACE_ALIGNMENT;
    list = take_token_list(workspace, args.batch, tokens);
    query = workspace.take<unsigned char>(args.batch * tokens * width * element_bytes);
    rows = workspace.take<unsigned char>(args.batch * row_bytes);
  }

  lat_rows queries() const { return {query, tokens * width, width}; }
  lat_rows keys() const { return {rows, row_bytes / element_bytes, width}; }
  lat_rows values() const { return {rows + tokens * width * element_bytes, row_bytes / element_bytes, width}; }
};

struct ClearTask {
  const int32_t* attention_mask;
  lat_rows output;
  int64_t first_block, rows, tokens, width;
  bool aligned;
};

constexpr int kClearThreads = 256, kRowsOfClear = kClearThreads / 32;

// A warp a row.
template <class Element>
__global__ void __launch_bounds__(kClearThreads) clear(const __grid_constant__ ClearTask task) {
  const int64_t row = (task.first_block + blockIdx.x) * kRowsOfClear + threadIdx.x / 32;
  if (row >= task.rows || task.attention_mask[row] == LAT_GLOBAL) return;
  Element* const to = row_of<Element>(task.output, row / task.tokens, row % task.tokens, 0);
  const int lane = static_cast<int>(threadIdx.x % 32);
  constexpr int kOf16Bytes = 16 / static_cast<int>(sizeof(Element));
  if (task.aligned)
    for (int64_t at = lane * kOf16Bytes; at < task.width; at += 32 * kOf16Bytes)
      *reinterpret_cast<uint4*>(to + at) = make_uint4(0, 0, 0, 0);
  else
    for (int64_t at = lane; at < task.width; at += 32) to[at] = from_float<Element>(0.0f);
}

template <class Element>
void attend(const lat_global_token_attention_args& args, const GlobalPlan& plan, cudaStream_t stream,
            lat_status& status) {
  launch_list_tokens<KeyKinds::tokens_and_globals>(args.attention_mask, args.batch, args.tokens, plan.list, stream,
                                                   status);
  const int64_t batch = args.batch, head_size = args.width / args.num_heads;
  ClearTask zeros{args.attention_mask, args.output, 0, batch * args.tokens, args.tokens, args.width, false};
  zeros.aligned = lies_on_16_bytes(args.output, sizeof(Element));
  launch_all("zeros", clear<Element>, zeros, (zeros.rows + kRowsOfClear - 1) / kRowsOfClear, kClearThreads, 0, stream,
             status);

  ProductTask product{};
  product.from = args.hidden_states;
  product.list = plan.list;
  product.width = args.width;
  product.tokens = static_cast<int32_t>(args.tokens);
  product.products = 1;
  product.weight[0] = args.query_weight;
  product.bias[0] = args.query_bias;
  product.to[0] = plan.queries();
  product.least_globals = 1;
  launch_product<Element, RowsOf::list>("queries", product, batch, stream, status);

  ProbeTask probes{};
  probes.hidden_states = args.hidden_states;
  probes.output = args.output;
  probes.key_weight = args.key_weight;
  probes.value_weight = args.value_weight;
  probes.value_bias = args.value_bias;
  probes.query = plan.query;
  probes.list = plan.list;
  probes.probes = reinterpret_cast<float*>(plan.rows);
  // The wide ones first: they stay on 16 bytes.
  probes.mixed = probes.probes + plan.most_probes * args.width;
  probes.largest = probes.mixed + plan.chunks * plan.most_probes * args.width;
  probes.total = probes.largest + plan.chunks * plan.most_probes;
  probes.batch_stride = plan.row_bytes / 4;
  probes.width = args.width;
  probes.tokens = static_cast<int32_t>(args.tokens);
  probes.num_heads = static_cast<int32_t>(args.num_heads);
  probes.head_size = static_cast<int32_t>(head_size);
  probes.chunks = static_cast<int32_t>(plan.chunks);
  probes.most_probes = static_cast<int32_t>(plan.most_probes);
  probes.most_globals = static_cast<int32_t>(plan.most_globals);
  probes.scale_log2 = args.scale * kLog2OfE;
  launch_probes<Element>(probes, batch, stream, status);
  if (plan.most_globals == args.tokens) return;  // then no row of the batch has more

  product.products = 2;
  product.weight[0] = args.key_weight;
  product.bias[0] = nullptr;
  product.to[0] = plan.keys();
  product.weight[1] = args.value_weight;
  product.bias[1] = args.value_bias;
  product.to[1] = plan.values();
  product.least_globals = static_cast<int32_t>(plan.most_globals) + 1;
  launch_product<Element, RowsOf::sequence>("keys and values", product, batch, stream, status);

  AttentionTask task{};
  task.query = plan.queries();
  task.key = plan.keys();
  task.value = plan.values();
  task.output = args.output;
  task.list = plan.list;
  task.tokens = static_cast<int32_t>(args.tokens);
  task.num_heads = static_cast<int32_t>(args.num_heads);
  task.window = task.tokens;
  task.least_rows = product.least_globals;
  task.scale_log2 = args.scale * kLog2OfE;
  launch_attention<Element, RowsOf::list>("attention of global rows", task, batch, head_size, stream, status);
}

struct GlobalTokenAttention : CudaAttentionOp<lat_global_token_attention_args> {
  using Plan = GlobalPlan;

  static void check_pointers(ArgumentCheck& check, const Args& args) { lat::check_pointers(check, args); }

  template <class Element>
  static void launch(const Args& args, const Plan& plan, cudaStream_t stream, lat_status& status) {
    attend<Element>(args, plan, stream, status);
  }
};

}  // namespace
}  // namespace lat

int64_t lat_global_token_attention_cuda_workspace(const lat_global_token_attention_args* args, lat_status* status) {
  return lat::cuda_workspace<lat::GlobalTokenAttention>(args, status);
}

void lat_global_token_attention_cuda(const lat_global_token_attention_args* args, void* workspace, void* stream,
                                     lat_status* status) {
  lat::cuda_run<lat::GlobalTokenAttention>(args, workspace, stream, status);
}
