// Banded attention on the CPU: a task is a head and 256 rows; its keys are those of the rows' windows, then the
// globals. Keys that a mask forbids are never read. Compiled once for each instruction set; see common/cpu_arch.h.
//
// Memory: the output, a list of the global tokens, and rows, keys, values and scores of one task a thread.
// The cut into tasks and chunks hangs on sizes and mask alone, so any number of threads gives the same bits.
#include "banded_window_attention/arguments.h"
#include "banded_window_attention/kernel.h"
#include "common/block_attention.h"
#include "common/parallel.h"
#include "common/positions.h"

namespace lat::LAT_ARCH {
namespace {

// Up to 256 rows of one head from `first` on.
void attend(const lat_banded_window_attention_args& args, const Positions& globals, int64_t batch, int64_t head,
            int64_t first, float* scratch) {
  const int64_t size = args.width / args.num_heads, end = smaller_of(first + BlockAttention::kRows, args.tokens);
  const int32_t* mask = args.attention_mask + batch * args.tokens;
  const auto of_head = [&](const lat_rows& all) { return Rows(args.dtype, all, batch, head * size, size); };
  const Rows key = of_head(args.key), value = of_head(args.value), output = of_head(args.output);

  BlockAttention block(scratch, size, args.tokens);
  bool any = false;
  block.start(of_head(args.query), first, end, args.scale, [&](int64_t from, int64_t to) {
    bool wanted = false;
    for (int64_t row = from; row < to; ++row) wanted |= mask[row] == LAT_TOKEN;
    any |= wanted;
    return wanted;
  });
  if (any) {
    block.see(args.window);
    const int64_t last = smaller_of(args.tokens, end + args.window);
    for (int64_t token = larger_of(0, first - args.window); token < last; ++token)
      if (mask[token] == LAT_TOKEN) block.add(key, value, token);
    block.flush();
    block.see(BlockAttention::kNoWindow);
    for (int64_t at = 0; at < globals.count(batch); ++at) block.add(key, value, globals.of(batch)[at]);
    block.flush();
  }
  for (int64_t panel = 0; panel < block.panels(); ++panel) {
    const float* rows = block.wanted(panel) ? block.finish(panel) : nullptr;
    for (int64_t row = block.from(panel); row < block.to(panel); ++row) {
      if (mask[row] == LAT_TOKEN)
        output.write(row, rows + (row - block.from(panel)) * BlockAttention::padded(size));
      else  // padding, or a global row, which another op writes
        output.write_zeros(row);
    }
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
  const int64_t blocks = pieces(args.tokens, BlockAttention::kRows), tasks = args.batch * args.num_heads * blocks;
  const int64_t floats = round_up(BlockAttention::floats(args.width / args.num_heads), 16);
  const Positions globals(args.batch, args.tokens);
  const Buffer<float> scratch(workers_for(parallel, tasks) * floats);
  if (!globals || !scratch) return no_memory(status);
  globals.find(args.attention_mask, is_global);
  for_each_piece(parallel, tasks, scratch.data(), floats, [&](int64_t task, float* own) {
    const int64_t head = task / blocks;
    attend(args, globals, head / args.num_heads, head % args.num_heads, task % blocks * BlockAttention::kRows, own);
  });
}

}  // namespace lat::LAT_ARCH

LAT_CPU_ENTRY(banded_window_attention)
