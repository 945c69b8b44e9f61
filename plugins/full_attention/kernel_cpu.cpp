// Full attention on the CPU: a task is a head and 256 rows, over all tokens a chunk at a time; no N x N array.
// A chunk of keys and values is read once for four panels of 64 rows. Padded keys are never read, unless a row of the
// batch has nothing else: then all its tokens count alike. Compiled once for each instruction set; see cpu_arch.h.
#include "common/arguments.h"
#include "common/parallel.h"
#include "common/positions.h"
#include "common/row_attention.h"
#include "common/value_convolution.h"
#include "full_attention/kernel.h"

namespace lat::LAT_ARCH {
namespace {

constexpr int64_t kPanels = 4;
constexpr int64_t kBlock = kPanels * kPanelRows;
constexpr int64_t kChunk = 128;  // keys: their scores and weights fit the second-level cache

struct Plan {
  explicit Plan(const lat_full_attention_args& args)
      : args(args),
        head_size(args.width / args.num_heads),
        padded(round_up(head_size, kLanes)),
        blocks(pieces(args.tokens, kBlock)),
        scale(1.0f / __builtin_sqrtf(static_cast<float>(head_size))) {}

  int64_t attention_floats() const { return RowAttention::floats(head_size, kChunk); }
  int64_t rows_floats() const { return kPanelRows * padded; }
  int64_t keys_floats() const { return 2 * kChunk * head_size; }
  // Keys and values are done with when the convolution begins.
  int64_t scratch_floats() const {
    return round_up(kPanels * attention_floats() + rows_floats() +
                        larger_of(keys_floats(), ValueConvolution::floats(args, kBlock, padded)),
                    16);
  }

  Rows rows(const lat_rows& all, int64_t head) const {
    return Rows(args.dtype, all, head / args.num_heads, head % args.num_heads * head_size, head_size);
  }

  const lat_full_attention_args& args;
  int64_t head_size, padded, blocks;
  float scale;
};

// Adds every key and value of the head to `count` attentions.
void add_keys(const Plan& plan, const Positions& tokens, int64_t head, RowAttention* attentions, int64_t count,
              float* scratch) {
  const int64_t batch = head / plan.args.num_heads, size = plan.head_size;
  const Rows key = plan.rows(plan.args.key, head), value = plan.rows(plan.args.value, head);
  const bool none = tokens.count(batch) == 0;
  const int64_t all = none ? plan.args.tokens : tokens.count(batch);
  float *keys = scratch, *values = keys + kChunk * size;
  for (int64_t first = 0; first < all; first += kChunk) {
    const int64_t some = smaller_of(kChunk, all - first);
    for (int64_t i = 0; i < some; ++i) {
      const auto token = [&](int64_t at) { return none ? at : int64_t{tokens.of(batch)[at]}; };
      if (i + Rows::kRowsAhead < some) {
        key.prefetch(token(first + i + Rows::kRowsAhead));
        value.prefetch(token(first + i + Rows::kRowsAhead));
      }
      key.read(token(first + i), keys + i * size);
      value.read(token(first + i), values + i * size);
    }
    for (int64_t panel = 0; panel < count; ++panel) {
      attentions[panel].score(keys, size, some);
      attentions[panel].add_values(values, size);
    }
  }
}

void attend(const Plan& plan, const Positions& tokens, int64_t head, int64_t start, float* scratch) {
  const auto& args = plan.args;
  const int64_t end = smaller_of(start + kBlock, args.tokens), panels = pieces(end - start, kPanelRows);
  const int64_t each = plan.attention_floats(), size = plan.head_size;
  const Rows query = plan.rows(args.query, head), output = plan.rows(args.output, head);
  RowAttention attentions[kPanels] = {
      {scratch, size}, {scratch + each, size}, {scratch + 2 * each, size}, {scratch + 3 * each, size}};
  float *rows = scratch + kPanels * each, *rest = rows + plan.rows_floats();
  // Scores of 0 where there is no token at all: the mean of all values.
  const float scale = tokens.count(head / args.num_heads) == 0 ? 0.0f : plan.scale;
  const auto rows_of = [&](int64_t panel) { return smaller_of(kPanelRows, end - start - panel * kPanelRows); };
  for (int64_t panel = 0; panel < panels; ++panel) {
    query.read(start + panel * kPanelRows, rows_of(panel), rows, plan.padded);  // zeros beyond D, which stay
    attentions[panel].start(rows, plan.padded, rows_of(panel), scale);
  }
  add_keys(plan, tokens, head, attentions, panels, rest);

  const ValueConvolution convolution(args, head % args.num_heads, plan.rows(args.value, head), plan.padded, rest);
  convolution.load(start, end);
  for (int64_t panel = 0; panel < panels; ++panel) {
    attentions[panel].finish(rows, plan.padded, rows_of(panel));
    convolution.add(panel * kPanelRows, rows_of(panel), rows);
    for (int64_t i = 0; i < rows_of(panel); ++i) output.write(start + panel * kPanelRows + i, rows + i * plan.padded);
  }
}

bool check(const lat_full_attention_args& args, lat_status& status) {
  ArgumentCheck check(status);
  check.attention(args);
  if (args.conv_weight != nullptr) check.convolution(args.num_heads, args.taps);
  return check.passed();
}

}  // namespace

void full_attention(const lat_full_attention_args& args, const lat_parallel& parallel, lat_status& status) {
  if (!check(args, status)) return;
  const Plan plan(args);
  const int64_t tasks = args.batch * args.num_heads * plan.blocks, floats = plan.scratch_floats();
  const Positions tokens(args.batch, args.tokens);
  const Buffer<float> scratch(workers_for(parallel, tasks) * floats);
  if (!tokens || !scratch) return no_memory(status);
  tokens.find(args.attention_mask, is_token);
  for_each_piece(parallel, tasks, scratch.data(), floats, [&](int64_t task, float* own) {
    attend(plan, tokens, task / plan.blocks, task % plan.blocks * kBlock, own);
  });
}

}  // namespace lat::LAT_ARCH

LAT_CPU_ENTRY(full_attention)
