// Attention of the global rows on the CPU, in one of two forms, row of the batch by row:
// - from the hidden states: q . (Wk x) = (Wk^T q) . x and sum p (Wv x + b) = Wv (sum p x) + b, so each of H * G
// "probes"
//   Wk^T q runs an attention of width E whose keys and values are both the hidden states;
// - by full projections of keys and values, as transformers does.
// Compiled once for each instruction set; see common/cpu_arch.h. The cut into tasks hangs on sizes and mask alone, so
// any number of threads gives the same bits.
#include "common/projection.h"
#include "common/row_attention.h"
#include "common/scratch.h"
#include "global_token_attention/arguments.h"
#include "global_token_attention/kernel.h"

namespace lat::LAT_ARCH {
namespace {

// Tokens of one task of a projection: enough to pay for the transposed weights.
constexpr int64_t kProjectedRows = 1024;
// Few probes leave few tasks, so the sequence is cut too, into pieces of at least so many tokens, up to so many tasks.
constexpr int64_t kTokensPerPiece = 128;
constexpr int64_t kTasks = 32;

// Keys at a time, so that queries, context and keys of this width stay in the second-level cache.
int64_t chunk_of(int64_t width) { return larger_of(16, smaller_of(128, 49152 / width)); }

template <class Element>
class GlobalRows {
 public:
  GlobalRows(const lat_global_token_attention_args& args, const lat_parallel& parallel, lat_status& status)
      : args_(args),
        parallel_(parallel),
        status_(status),
        width_(args.width),
        heads_(args.num_heads),
        head_size_(args.width / args.num_heads) {}

  void run() {
    in_parallel<&GlobalRows::clear>(pieces(args_.tokens, kRows) * args_.batch);
    const CallMemory list(static_cast<std::size_t>(args_.tokens) * sizeof(int32_t));
    place_ = static_cast<int32_t*>(list.data());
    if (place_ == nullptr) return fail(status_, LAT_NO_MEMORY, "no memory for a list of global tokens");
    for (batch_ = 0; batch_ < args_.batch && status_.code == LAT_OK; ++batch_) {
      count_ = 0;
      for (int64_t token = 0; token < args_.tokens; ++token)
        if (mask()[token] == LAT_GLOBAL) place_[count_++] = static_cast<int32_t>(token);
      if (count_ > 0) attend();
    }
  }

 private:
  bool from_hidden_states() const {
    if (args_.form != LAT_BY_COST) return args_.form == LAT_FROM_HIDDEN_STATES;
    // The full projections' products run at 0.8 of the rate of the probes' (README, measured).
    return 4 * heads_ * count_ < 5 * (width_ + count_);
  }

  // One row of the batch.
  void attend() {
    const bool cheap = from_hidden_states();
    const int64_t rows = heads_ * count_;
    blocks_ = pieces(rows, kRows);
    cuts_ = larger_of(1, smaller_of(kTasks / blocks_, pieces(args_.tokens, kTokensPerPiece)));
    const int64_t part = (width_ + 2) * kRows;
    const int64_t small = 3 * count_ * width_;
    const int64_t large = cheap ? 2 * rows * width_ + blocks_ * cuts_ * part : 3 * args_.tokens * width_;
    const CallMemory memory(static_cast<std::size_t>(small + large) * sizeof(float));
    float* at = static_cast<float*>(memory.data());
    if (at == nullptr)
      return fail(status_, LAT_NO_MEMORY, "no memory for %lld floats", static_cast<long long>(small + large));
    hidden_ = at;
    query_ = hidden_ + count_ * width_;
    context_ = query_ + count_ * width_;
    at = context_ + count_ * width_;
    for (int64_t row = 0; row < count_; ++row) read_row(token(place_[row]), width_, hidden_ + row * width_);
    in_parallel<&GlobalRows::make_queries>(pieces(width_, kRows));
    if (cheap) {
      probes_ = at;
      mixed_ = probes_ + rows * width_;
      parts_ = mixed_ + rows * width_;
      in_parallel<&GlobalRows::make_probes>(heads_);
      in_parallel<&GlobalRows::mix_piece>(blocks_ * cuts_);
      in_parallel<&GlobalRows::join_pieces>(blocks_ * pieces(width_, kRows));
      in_parallel<&GlobalRows::make_context>(heads_);
    } else {
      keys_ = at;
      values_ = keys_ + args_.tokens * width_;
      all_hidden_ = values_ + args_.tokens * width_;
      in_parallel<&GlobalRows::read_hidden>(pieces(args_.tokens, kRows));
      in_parallel<&GlobalRows::make_keys_and_values>(2 * pieces(width_, kRows) * pieces(args_.tokens, kProjectedRows));
      in_parallel<&GlobalRows::attend_head>(heads_ * pieces(count_, kRows));
    }
    if (no_memory_) return fail(status_, LAT_NO_MEMORY, "no memory for a thread's scratch");
    for (int64_t row = 0; row < count_; ++row) write_row(context_ + row * width_, width_, output(place_[row]));
  }

  void clear(int64_t index) {
    const int64_t blocks = pieces(args_.tokens, kRows), batch = index / blocks, first = index % blocks * kRows;
    for (int64_t row = first; row < smaller_of(first + kRows, args_.tokens); ++row)
      write_zeros(
          static_cast<Element*>(args_.output.data) + batch * args_.output.batch_stride + row * args_.output.row_stride,
          width_);
  }

  void make_queries(int64_t panel) {
    if (float* space = scratch(projection_floats(width_)))
      project(hidden_, width_, count_, weight(args_.query_weight), weight(args_.query_bias), width_, panel * kRows,
              smaller_of(width_, (panel + 1) * kRows), query_, width_, space);
  }

  // [H][G][E]: a head's queries times its rows of the key weight.
  void make_probes(int64_t head) {
    float* panel = scratch((head_size_ + kRows) * kRows);  // [D][64]
    if (panel == nullptr) return;
    float* tile = panel + head_size_ * kRows;
    const Element* rows = weight(args_.key_weight) + head * head_size_ * width_;
    for (int64_t column = 0; column < width_; column += kRows) {
      const int64_t columns = smaller_of(kRows, width_ - column);
      for (int64_t d = 0; d < head_size_; ++d) {
        for (int64_t i = columns; i < kRows; ++i) panel[d * kRows + i] = 0.0f;
        read_row(rows + d * width_ + column, columns, panel + d * kRows);
      }
      for (int64_t row = 0; row < count_; row += kRows) {
        const int64_t block = smaller_of(kRows, count_ - row);
        product<true, false>(block, query_ + row * width_ + head * head_size_, width_, panel, head_size_, tile, kRows,
                             kRows / kLanes);
        for (int64_t i = 0; i < block; ++i)
          std::memcpy(probes_ + (head * count_ + row + i) * width_ + column, tile + i * kRows,
                      static_cast<std::size_t>(columns) * sizeof(float));
      }
    }
  }

  // 64 probes over a piece of the sequence: the largest score, the sum and the context of each.
  void mix_piece(int64_t index) {
    const int64_t chunk = chunk_of(width_), block = index / cuts_, cut = index % cuts_;
    float* space = scratch(RowAttention::floats(width_, chunk) + chunk * width_);
    if (space == nullptr) return;
    RowAttention attention(space, width_);
    float* keys = space + RowAttention::floats(width_, chunk);
    const int64_t rows = smaller_of(kRows, heads_ * count_ - block * kRows);
    attention.start(reinterpret_cast<const Float32*>(probes_ + block * kRows * width_), width_, rows, args_.scale);
    int64_t held = 0;
    for (int64_t at = args_.tokens * cut / cuts_; at < args_.tokens * (cut + 1) / cuts_; ++at) {
      if (mask()[at] == LAT_PADDING) continue;
      read_row(token(at), width_, keys + held++ * width_);
      if (held == chunk) {
        attention.score(keys, width_, held);
        attention.add_values(keys, width_);
        held = 0;
      }
    }
    if (held > 0) {
      attention.score(keys, width_, held);
      attention.add_values(keys, width_);
    }
    attention.save(part(block, cut));
  }

  // The pieces of 64 probes, in their order, to the mixed hidden states [H][G][E], for 64 columns.
  void join_pieces(int64_t index) {
    const int64_t panels = pieces(width_, kRows), block = index / panels, from = index % panels * kRows,
                  to = smaller_of(width_, from + kRows);
    const int64_t rows = smaller_of(kRows, heads_ * count_ - block * kRows);
    for (int64_t first = 0; first < rows; first += kLanes) {
      Vector maximum = splat(kNoMaximum), sum{};
      for (int64_t cut = 0; cut < cuts_; ++cut) maximum = larger(maximum, load(part(block, cut) + first));
      for (int64_t cut = 0; cut < cuts_; ++cut) {
        const float* one = part(block, cut) + first;
        sum += load(one + kRows) * exp2_of_negative(load(one) - maximum);
      }
      for (int64_t column = from; column < to; ++column) {
        Vector context{};
        for (int64_t cut = 0; cut < cuts_; ++cut) {
          const float* one = part(block, cut) + first;
          context += load(one + (2 + column) * kRows) * exp2_of_negative(load(one) - maximum);
        }
        for (int64_t row = first; row < smaller_of(rows, first + kLanes); ++row)
          mixed_[(block * kRows + row) * width_ + column] =
              sum[row - first] > 0 ? context[row - first] / sum[row - first] : 0.0f;
      }
    }
  }

  void make_context(int64_t head) {
    if (float* space = scratch(projection_floats(width_)))
      project(mixed_ + head * count_ * width_, width_, count_, weight(args_.value_weight), weight(args_.value_bias),
              width_, head * head_size_, (head + 1) * head_size_, context_, width_, space);
  }

  void read_hidden(int64_t block) {
    for (int64_t row = block * kRows; row < smaller_of(args_.tokens, (block + 1) * kRows); ++row)
      read_row(token(row), width_, all_hidden_ + row * width_);
  }

  void make_keys_and_values(int64_t index) {
    float* space = scratch(projection_floats(width_));
    if (space == nullptr) return;
    const int64_t panels = pieces(width_, kRows), first = index / 2 / panels * kProjectedRows,
                  from = index / 2 % panels * kRows;
    const bool key = index % 2 == 0;
    project(all_hidden_ + first * width_, width_, smaller_of(kProjectedRows, args_.tokens - first),
            weight(key ? args_.key_weight : args_.value_weight), key ? nullptr : weight(args_.value_bias), width_, from,
            smaller_of(width_, from + kRows), (key ? keys_ : values_) + first * width_, width_, space);
  }

  // 64 global rows of one head over all tokens.
  void attend_head(int64_t index) {
    const int64_t chunk = chunk_of(head_size_), head = index % heads_, first = index / heads_ * kRows;
    float* space = scratch(RowAttention::floats(head_size_, chunk) + 2 * chunk * head_size_);
    if (space == nullptr) return;
    RowAttention attention(space, head_size_);
    float* keys = space + RowAttention::floats(head_size_, chunk);
    float* values = keys + chunk * head_size_;
    const int64_t rows = smaller_of(kRows, count_ - first), offset = head * head_size_;
    attention.start(reinterpret_cast<const Float32*>(query_ + first * width_ + offset), width_, rows, args_.scale);
    const std::size_t bytes = static_cast<std::size_t>(head_size_) * sizeof(float);
    int64_t held = 0;
    for (int64_t at = 0; at < args_.tokens; ++at) {
      if (mask()[at] == LAT_PADDING) continue;
      std::memcpy(keys + held * head_size_, keys_ + at * width_ + offset, bytes);
      std::memcpy(values + held * head_size_, values_ + at * width_ + offset, bytes);
      if (++held == chunk) {
        attention.score(keys, head_size_, held);
        attention.add_values(values, head_size_);
        held = 0;
      }
    }
    if (held > 0) {
      attention.score(keys, head_size_, held);
      attention.add_values(values, head_size_);
    }
    attention.finish(reinterpret_cast<Float32*>(context_ + first * width_ + offset), width_, rows);
  }

  template <void (GlobalRows::*Step)(int64_t)>
  void in_parallel(int64_t count) {
    parallel_.run(
        parallel_.pool, count, [](void* self, int64_t index) { (static_cast<GlobalRows*>(self)->*Step)(index); }, this);
  }

  float* scratch(int64_t floats) {
    float* space = static_cast<float*>(thread_scratch(static_cast<std::size_t>(floats) * sizeof(float)));
    if (space == nullptr) __atomic_store_n(&no_memory_, true, __ATOMIC_RELAXED);
    return space;
  }

  float* part(int64_t block, int64_t cut) const { return parts_ + (block * cuts_ + cut) * (width_ + 2) * kRows; }
  const Element* weight(const void* data) const { return static_cast<const Element*>(data); }
  const int32_t* mask() const { return args_.attention_mask + batch_ * args_.tokens; }
  const Element* token(int64_t at) const {
    return static_cast<const Element*>(args_.hidden_states.data) + batch_ * args_.hidden_states.batch_stride +
           at * args_.hidden_states.row_stride;
  }
  Element* output(int64_t at) const {
    return static_cast<Element*>(args_.output.data) + batch_ * args_.output.batch_stride + at * args_.output.row_stride;
  }

  const lat_global_token_attention_args& args_;
  const lat_parallel& parallel_;
  lat_status& status_;
  int64_t width_, heads_, head_size_;
  int64_t batch_ = 0, count_ = 0;  // the row of the batch in work, and its G
  int64_t blocks_ = 0, cuts_ = 0;
  int32_t* place_ = nullptr;                                           // [G]
  float *hidden_ = nullptr, *query_ = nullptr, *context_ = nullptr;    // [G][E]
  float *probes_ = nullptr, *mixed_ = nullptr, *parts_ = nullptr;      // [H][G][E] twice, and see part()
  float *keys_ = nullptr, *values_ = nullptr, *all_hidden_ = nullptr;  // [N][E]
  bool no_memory_ = false;
};

bool check(const lat_global_token_attention_args& args, lat_status& status) {
  ArgumentCheck check(status);
  check_sizes(check, args);
  check_pointers(check, args);
  check.token_mask(args.attention_mask, args.batch, args.tokens);
  return check.passed();
}

}  // namespace

void global_token_attention(const lat_global_token_attention_args& args, const lat_parallel& parallel,
                            lat_status& status) {
  if (!check(args, status)) return;
  if (args.dtype == LAT_FLOAT32)
    GlobalRows<Float32>(args, parallel, status).run();
  else if (args.dtype == LAT_FLOAT16)
    GlobalRows<Float16>(args, parallel, status).run();
  else
    GlobalRows<BFloat16>(args, parallel, status).run();
}

}  // namespace lat::LAT_ARCH

LAT_CPU_ENTRY(global_token_attention)
