// Full attention on the CPU: a task is a head and 256 rows, over all tokens a chunk at a time; no N x N array.
// Padded keys are never read, unless a row of the batch has nothing else: then all its tokens count alike.
// Compiled once for each instruction set; see common/cpu_arch.h.
#include "common/block_attention.h"
#include "common/parallel.h"
#include "common/positions.h"
#include "common/value_convolution.h"
#include "full_attention/arguments.h"
#include "full_attention/kernel.h"

namespace lat::LAT_ARCH {
namespace {

int64_t scratch_floats(const lat_full_attention_args& args) {
  const int64_t size = args.width / args.num_heads;
  return round_up(BlockAttention::floats(size) +
                      ValueConvolution::floats(args, BlockAttention::kRows, BlockAttention::padded(size)),
                  16);
}

// Up to 256 rows of one head from `first` on.
void attend(const lat_full_attention_args& args, const Positions& tokens, int64_t batch, int64_t head, int64_t first,
            float* scratch) {
  const int64_t size = args.width / args.num_heads, padded = BlockAttention::padded(size);
  const int64_t end = smaller_of(first + BlockAttention::kRows, args.tokens);
  const auto of_head = [&](const lat_rows& all) { return Rows(args.dtype, all, batch, head * size, size); };
  const Rows key = of_head(args.key), value = of_head(args.value), output = of_head(args.output);
  const int64_t kept = tokens.count(batch);
  // Scores of 0 where there is no token at all: the mean of all values.
  const float scale = kept == 0 ? 0.0f : 1.0f / __builtin_sqrtf(static_cast<float>(size));
  BlockAttention block(scratch, size, args.tokens);
  block.start(of_head(args.query), first, end, scale, [](int64_t, int64_t) { return true; });
  for (int64_t i = 0; i < kept; ++i) block.add(key, value, tokens.of(batch)[i]);
  for (int64_t i = 0; kept == 0 && i < args.tokens; ++i) block.add(key, value, i);
  block.flush();

  const ValueConvolution convolution(args, head, value, padded, scratch + BlockAttention::floats(size));
  convolution.load(first, end);
  for (int64_t panel = 0; panel < block.panels(); ++panel) {
    float* rows = block.finish(panel);
    const int64_t from = block.from(panel), count = block.to(panel) - from;
    convolution.add(from - first, count, rows);
    for (int64_t i = 0; i < count; ++i) output.write(from + i, rows + i * padded);
  }
}

bool check(const lat_full_attention_args& args, lat_status& status) {
  ArgumentCheck check(status);
  check_sizes(check, args);
  check.attention_rows(args);
  return check.passed();
}

}  // namespace

void full_attention(const lat_full_attention_args& args, const lat_parallel& parallel, lat_status& status) {
  if (!check(args, status)) return;
  const int64_t blocks = pieces(args.tokens, BlockAttention::kRows), tasks = args.batch * args.num_heads * blocks;
  const int64_t floats = scratch_floats(args);
  const Positions tokens(args.batch, args.tokens);
  const Buffer<float> scratch(workers_for(parallel, tasks) * floats);
  if (!tokens || !scratch) return no_memory(status);
  tokens.find(args.attention_mask, is_token);
  for_each_piece(parallel, tasks, scratch.data(), floats, [&](int64_t task, float* own) {
    const int64_t head = task / blocks;
    attend(args, tokens, head / args.num_heads, head % args.num_heads, task % blocks * BlockAttention::kRows, own);
  });
}

}  // namespace lat::LAT_ARCH

LAT_CPU_ENTRY(full_attention)
