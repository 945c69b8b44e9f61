// lat::NystromAttention on CUDA devices, sm_80 and later: four launches, none of which the host waits for.
//   1. find_landmarks: means of N / L queries and keys, and words of key bits. Reads query and key.
//   2. mix_values: kernel_2 of each head, a block of threads; and, 64 landmarks and a segment of the keys a block,
//      kernel_3 x values, the attention of the query landmarks over the keys. Reads key and value.
//   3. invert: the parts of a head joined in their order, the pseudo-inverse, summary = inverse x kernel_3 x values.
//   4. write_output: kernel_1 x summary, the attention of the queries over the key landmarks, and the convolution of
//      the values added to it before it is rounded. Reads query and value, writes output.
// 16-bit elements run on the matrix units, float32 and rows that do not lie on 16 bytes without.
//
// Workspace, with P = 64 or 128, the landmarks rounded up, and S segments (common/key_cut.h), each part on 256 bytes:
// see cuda_task.cuh.
#include "common/key_cut.h"
#include "nystrom_attention/arguments.h"
#include "nystrom_attention/cuda_inverse.cuh"
#include "nystrom_attention/cuda_landmarks.cuh"
#include "nystrom_attention/cuda_mma_passes.cuh"
#include "nystrom_attention/cuda_simt_passes.cuh"
#include "nystrom_attention/kernel.h"

namespace lat {
namespace {

constexpr float kLog2OfE = 1.44269504f;

bool sizes_are_sound(const lat_nystrom_attention_args& args, lat_status& status) {
  ArgumentCheck check(status);
  check_sizes(check, args);
  check.elements("query", args.batch, args.tokens, args.width);
  check_cuda_head_size(args.width, args.num_heads, status);
  if (check.passed() && args.num_landmarks > kMostLandmarks)
    fail(status, LAT_UNSUPPORTED, "num_landmarks: got L=%lld, expected at most %d on CUDA devices",
         static_cast<long long>(args.num_landmarks), kMostLandmarks);
  return check.passed();
}

// Sizes of the call, and the workspace cut: none of it shrinks where B or N grows, as TensorRT asks once, for the
// largest.
NystromTask task_of(const lat_nystrom_attention_args& args, Workspace& workspace) {
  NystromTask task{};
  task.query = args.query;
  task.key = args.key;
  task.value = args.value;
  task.output = args.output;
  task.attention_mask = args.attention_mask;
  task.conv_weight = args.conv_weight;
  task.taps = args.conv_weight == nullptr ? 1 : args.taps;
  task.heads = args.batch * args.num_heads;
  task.batch = static_cast<int32_t>(args.batch);
  task.tokens = static_cast<int32_t>(args.tokens);
  task.num_heads = static_cast<int32_t>(args.num_heads);
  task.landmarks = static_cast<int32_t>(args.num_landmarks);
  task.head_size = static_cast<int32_t>(args.width / args.num_heads);
  task.rows_of_landmark = task.tokens / task.landmarks;
  task.panels = task.landmarks <= kLandmarkRows ? 1 : 2;
  const KeyCut cut(task.heads, task.panels, args.tokens);
  task.segments = static_cast<int32_t>(cut.segments);
  task.tiles_of_segment = static_cast<int32_t>(cut.tiles_of_segment);
  task.per_head_init = args.per_head_init;
  task.scale_log2 = kLog2OfE / sqrtf(static_cast<float>(task.head_size));

  const int64_t rows = task.heads * task.landmarks, numbers = rows * task.head_size;
  const int64_t parts = KeyCut::capacity(task.heads, args.tokens) * task.landmarks;
  const int64_t padded = kLandmarkRows * task.panels, matrices = task.heads * padded * padded;
  task.key_bits = workspace.take<uint64_t>(args.batch * tiles_of(args.tokens));
  task.any_token = workspace.take<int32_t>(args.batch);
  task.of_query = workspace.take<float>(numbers);
  task.of_key = workspace.take<float>(numbers);
  task.query_16 = workspace.take<uint16_t>(numbers);
  task.key_16 = workspace.take<uint16_t>(numbers);
  task.kernel_2 = workspace.take<float>(matrices);
  task.largest = workspace.take<float>(task.heads);
  task.parts = workspace.take<float>(parts * task.head_size);
  task.part_largest = workspace.take<float>(parts);
  task.part_sum = workspace.take<float>(parts);
  task.scratch = workspace.take<float>(2 * matrices);
  task.summary = workspace.take<float>(numbers);
  task.summary_scale = workspace.take<float>(task.heads);
  return task;
}

template <class Element, int kHeadSize>
void attend_of_size(const NystromTask& task, cudaStream_t stream, lat_status& status) {
  if constexpr (sizeof(Element) == 2) {
    if (lies_on_16_bytes(task.query, 2) && lies_on_16_bytes(task.key, 2) && lies_on_16_bytes(task.value, 2) &&
        lies_on_16_bytes(task.output, 2)) {
      launch_landmarks<Element, true>(task, stream, status);
      launch_mma_mix_values<Element, kHeadSize>(task, stream, status);
      launch_invert<true, kHeadSize>(task, stream, status);
      return launch_mma_output<Element, kHeadSize>(task, stream, status);
    }
  }
  launch_landmarks<Element, false>(task, stream, status);
  launch_simt_mix_values<Element, kHeadSize>(task, stream, status);
  launch_invert<false, kHeadSize>(task, stream, status);
  launch_simt_output<Element, kHeadSize>(task, stream, status);
}

template <class Element>
void attend(const NystromTask& task, cudaStream_t stream, lat_status& status) {
  switch (task.head_size) {
    case 16:
      return attend_of_size<Element, 16>(task, stream, status);
    case 32:
      return attend_of_size<Element, 32>(task, stream, status);
    case 64:
      return attend_of_size<Element, 64>(task, stream, status);
    default:
      return attend_of_size<Element, 128>(task, stream, status);
  }
}

}  // namespace
}  // namespace lat

int64_t lat_nystrom_attention_cuda_workspace(const lat_nystrom_attention_args* args, lat_status* status) {
  if (!lat::cuda_entry_is_sound(args, status) || !lat::sizes_are_sound(*args, *status)) return -1;
  lat::Workspace workspace;
  lat::task_of(*args, workspace);
  return workspace.bytes();
}

void lat_nystrom_attention_cuda(const lat_nystrom_attention_args* args, void* workspace, void* stream,
                                lat_status* status) {
  if (!lat::cuda_entry_is_sound(args, status) || !lat::sizes_are_sound(*args, *status)) return;
  lat::ArgumentCheck check(*status);
  check.attention_rows(*args);
  lat::check_cuda_call(workspace, *status);
  if (!check.passed()) return;
  lat::Workspace parts(workspace);
  const lat::NystromTask task = lat::task_of(*args, parts);
  cudaStream_t const on = static_cast<cudaStream_t>(stream);
  if (args->dtype == LAT_FLOAT32)
    lat::attend<float>(task, on, *status);
  else if (args->dtype == LAT_FLOAT16)
    lat::attend<__half>(task, on, *status);
  else
    lat::attend<__nv_bfloat16>(task, on, *status);
}
