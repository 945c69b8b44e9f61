// Banded attention on the CPU: a task is a head and 64 rows; its keys are those of the rows' windows, then the globals.
// Keys that a mask forbids are never read. Compiled once for each instruction set; see common/cpu_arch.h.
//
// Memory: the output, a list of the global tokens, and a chunk of keys, values and scores a thread.
// The cut into tasks and chunks hangs on sizes and mask alone, so any number of threads gives the same bits.
#include "banded_window_attention/arguments.h"
#include "banded_window_attention/kernel.h"
#include "common/row_attention.h"
#include "common/scratch.h"

namespace lat::LAT_ARCH {
namespace {

// Keys that are scored, weighed and summed at a time: chunk of keys and their weights fit the second-level cache, and
// what is read again and again fits the first.
constexpr int64_t kChunk = 128;

struct Problem {
  const lat_banded_window_attention_args& args;
  int64_t head_size, row_blocks;
  const int32_t* globals;       // positions, row by row of the batch
  const int64_t* global_start;  // [B + 1]
  bool no_memory;               // set by any task, read when all are done
};

int64_t scratch_floats(int64_t head_size) {
  return RowAttention::floats(head_size, kChunk) + 2 * kChunk * head_size + kChunk;
}

// The keys of one block of rows, a chunk at a time.
template <class Element>
class Chunk {
 public:
  Chunk(const Problem& problem, int64_t batch, int64_t head, int64_t first_row, int64_t rows, RowAttention& attention,
        float* scratch)
      : head_size_(problem.head_size),
        window_(problem.args.window),
        first_row_(first_row),
        rows_(rows),
        key_(at(problem.args.key, batch, head)),
        value_(at(problem.args.value, batch, head)),
        key_stride_(problem.args.key.row_stride),
        value_stride_(problem.args.value.row_stride),
        attention_(attention),
        keys_(scratch),
        values_(scratch + kChunk * head_size_),
        position_(reinterpret_cast<int32_t*>(values_ + kChunk * head_size_)) {}

  void add_token(int64_t token) { add(token, static_cast<int32_t>(token)); }
  void add_global(int64_t token) { add(token, kEverywhere); }

  void flush() {
    if (count_ == 0) return;
    attention_.score(keys_, head_size_, count_);
    for (int64_t i = 0; i < count_; ++i) {
      if (position_[i] == kEverywhere) continue;
      const int64_t from = position_[i] - window_ - first_row_, to = position_[i] + window_ - first_row_;
      if (from > 0 || to < rows_ - 1) attention_.mask(i, larger_of(from, 0), smaller_of(to, rows_));
    }
    attention_.add_values(values_, head_size_);
    count_ = 0;
  }

 private:
  static constexpr int32_t kEverywhere = -1;

  const Element* at(const lat_rows& rows, int64_t batch, int64_t head) const {
    return static_cast<const Element*>(rows.data) + batch * rows.batch_stride + head * head_size_;
  }

  void add(int64_t token, int32_t position) {
    read_row(key_ + token * key_stride_, head_size_, keys_ + count_ * head_size_);
    read_row(value_ + token * value_stride_, head_size_, values_ + count_ * head_size_);
    position_[count_] = position;
    if (++count_ == kChunk) flush();
  }

  int64_t head_size_, window_, first_row_, rows_;
  const Element *key_, *value_;
  int64_t key_stride_, value_stride_;
  RowAttention& attention_;
  float *keys_, *values_;
  int32_t* position_;
  int64_t count_ = 0;
};

template <class Element>
void attend(Problem& problem, int64_t index) {
  const lat_banded_window_attention_args& args = problem.args;
  const int64_t block = index % problem.row_blocks, head = index / problem.row_blocks % args.num_heads,
                batch = index / problem.row_blocks / args.num_heads;
  const int64_t first = block * kRows, rows = smaller_of(kRows, args.tokens - first);
  const int32_t* mask = args.attention_mask + batch * args.tokens;
  Element* output = static_cast<Element*>(args.output.data) + batch * args.output.batch_stride +
                    first * args.output.row_stride + head * problem.head_size;

  bool any = false;
  for (int64_t row = first; row < first + rows; ++row) any |= mask[row] == LAT_TOKEN;
  if (!any) {  // padding, or global rows, which another op writes
    for (int64_t row = 0; row < rows; ++row) write_zeros(output + row * args.output.row_stride, problem.head_size);
    return;
  }
  float* scratch =
      static_cast<float*>(thread_scratch(static_cast<std::size_t>(scratch_floats(problem.head_size)) * sizeof(float)));
  if (scratch == nullptr) {
    __atomic_store_n(&problem.no_memory, true, __ATOMIC_RELAXED);
    return;
  }
  RowAttention attention(scratch, problem.head_size);
  const Element* query = static_cast<const Element*>(args.query.data) + batch * args.query.batch_stride +
                         first * args.query.row_stride + head * problem.head_size;
  attention.start(query, args.query.row_stride, rows, args.scale);
  Chunk<Element> keys(problem, batch, head, first, rows, attention,
                      scratch + RowAttention::floats(problem.head_size, kChunk));
  const int64_t end = smaller_of(args.tokens, first + rows + args.window);
  for (int64_t token = larger_of(0, first - args.window); token < end; ++token)
    if (mask[token] == LAT_TOKEN) keys.add_token(token);
  for (int64_t at = problem.global_start[batch]; at < problem.global_start[batch + 1]; ++at)
    keys.add_global(problem.globals[at]);
  keys.flush();
  attention.finish(output, args.output.row_stride, rows);
  for (int64_t row = 0; row < rows; ++row)
    if (mask[first + row] == LAT_PADDING) write_zeros(output + row * args.output.row_stride, problem.head_size);
}

bool check(const lat_banded_window_attention_args& args, lat_status& status) {
  ArgumentCheck check(status);
  check_sizes(check, args);
  check.attention_rows(args);
  check.token_mask(args.attention_mask, args.batch, args.tokens);
  return check.passed();
}

template <class Element>
void task(void* context, int64_t index) {
  attend<Element>(*static_cast<Problem*>(context), index);
}

}  // namespace

void banded_window_attention(const lat_banded_window_attention_args& args, const lat_parallel& parallel,
                             lat_status& status) {
  if (!check(args, status)) return;
  int64_t count = 0;
  for (int64_t at = 0; at < args.batch * args.tokens; ++at) count += args.attention_mask[at] == LAT_GLOBAL;
  const CallMemory starts(static_cast<std::size_t>(args.batch + 1) * sizeof(int64_t));
  const CallMemory places(static_cast<std::size_t>(count) * sizeof(int32_t));
  if (starts.data() == nullptr || places.data() == nullptr) {
    fail(status, LAT_NO_MEMORY, "no memory for a list of %lld global tokens", static_cast<long long>(count));
    return;
  }
  int64_t* start = static_cast<int64_t*>(starts.data());
  int32_t* place = static_cast<int32_t*>(places.data());
  int64_t found = 0;
  for (int64_t batch = 0; batch < args.batch; ++batch) {
    start[batch] = found;
    for (int64_t token = 0; token < args.tokens; ++token)
      if (args.attention_mask[batch * args.tokens + token] == LAT_GLOBAL) place[found++] = static_cast<int32_t>(token);
  }
  start[args.batch] = found;

  Problem problem{args, args.width / args.num_heads, pieces(args.tokens, kRows), place, start, false};
  const lat_task run = args.dtype == LAT_FLOAT32   ? task<Float32>
                       : args.dtype == LAT_FLOAT16 ? task<Float16>
                                                   : task<BFloat16>;
  parallel.run(parallel.pool, args.batch * args.num_heads * problem.row_blocks, run, &problem);
  if (problem.no_memory)
    fail(status, LAT_NO_MEMORY, "no memory for %lld floats of scratch",
         static_cast<long long>(scratch_floats(problem.head_size)));
}

}  // namespace lat::LAT_ARCH

LAT_CPU_ENTRY(banded_window_attention)
