// Banded attention on the CPU: a task is a head and 64 rows; its keys are those of the rows' windows, then the globals.
// Keys that a mask forbids are never read. Compiled once for each instruction set; see common/cpu_arch.h.
//
// Memory: the output, a list of the global tokens, and rows, keys, values and scores of one task a thread.
// The cut into tasks and chunks hangs on sizes and mask alone, so any number of threads gives the same bits.
#include "banded_window_attention/arguments.h"
#include "banded_window_attention/kernel.h"
#include "common/parallel.h"
#include "common/positions.h"
#include "common/row_attention.h"

namespace lat::LAT_ARCH {
namespace {

// Keys that are scored, weighed and summed at a time: chunk of keys and their weights fit the second-level cache, and
// what is read again and again fits the first.
constexpr int64_t kChunk = 128;

int64_t scratch_floats(int64_t head_size) {
  return round_up(
      kPanelRows * head_size + RowAttention::floats(head_size, kChunk) + KeyChunk::floats(head_size, kChunk), 16);
}

// 64 rows of one head from `first` on.
void attend(const lat_banded_window_attention_args& args, const Positions& globals, int64_t batch, int64_t head,
            int64_t first, float* scratch) {
  const int64_t size = args.width / args.num_heads, rows = smaller_of(kPanelRows, args.tokens - first);
  const int32_t* mask = args.attention_mask + batch * args.tokens;
  const auto of_head = [&](const lat_rows& all) { return Rows(args.dtype, all, batch, head * size, size); };
  const Rows query = of_head(args.query), key = of_head(args.key), value = of_head(args.value),
             output = of_head(args.output);

  bool any = false;
  for (int64_t row = first; row < first + rows; ++row) any |= mask[row] == LAT_TOKEN;
  if (!any) {  // padding, or global rows, which another op writes
    for (int64_t row = first; row < first + rows; ++row) output.write_zeros(row);
    return;
  }
  float *staged = scratch, *of_attention = staged + kPanelRows * size;
  RowAttention attention(of_attention, size);
  query.read(first, rows, staged, size);
  attention.start(staged, size, rows, args.scale);

  KeyChunk keys(attention, size, kChunk, of_attention + RowAttention::floats(size, kChunk));
  const auto add = [&](int64_t token, int64_t from, int64_t to) {
    key.read(token, keys.key());
    value.read(token, keys.value());
    keys.added(from, to);
  };
  const int64_t end = smaller_of(args.tokens, first + rows + args.window);
  for (int64_t token = larger_of(0, first - args.window); token < end; ++token) {
    if (mask[token] != LAT_TOKEN) continue;
    const int64_t last = token + args.window - first;
    add(token, larger_of(0, token - args.window - first), last < rows - 1 ? last : kPanelRows - 1);
  }
  for (int64_t at = 0; at < globals.count(batch); ++at) add(globals.of(batch)[at], 0, kPanelRows - 1);
  keys.flush();

  attention.finish(staged, size, rows);
  for (int64_t row = 0; row < rows; ++row) {
    if (mask[first + row] == LAT_PADDING)
      output.write_zeros(first + row);
    else
      output.write(first + row, staged + row * size);
  }
}

bool check(const lat_banded_window_attention_args& args, lat_status& status) {
  ArgumentCheck check(status);
  check_sizes(check, args);
  check.attention_rows(args);
  check.token_mask(args.attention_mask, args.batch, args.tokens);
  return check.passed();
}

}  // namespace

void banded_window_attention(const lat_banded_window_attention_args& args, const lat_parallel& parallel,
                             lat_status& status) {
  if (!check(args, status)) return;
  const int64_t blocks = pieces(args.tokens, kPanelRows), tasks = args.batch * args.num_heads * blocks;
  const int64_t floats = scratch_floats(args.width / args.num_heads);
  const Positions globals(args.batch, args.tokens);
  const Buffer<float> scratch(workers_for(parallel, tasks) * floats);
  if (!globals || !scratch) return no_memory(status);
  globals.find(args.attention_mask, is_global);
  for_each_piece(parallel, tasks, scratch.data(), floats, [&](int64_t task, float* own) {
    const int64_t head = task / blocks;
    attend(args, globals, head / args.num_heads, head % args.num_heads, task % blocks * kPanelRows, own);
  });
}

}  // namespace lat::LAT_ARCH

LAT_CPU_ENTRY(banded_window_attention)
