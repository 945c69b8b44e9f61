// Attention of the global rows on the CPU, in one of two forms, row of the batch by row:
// - from the hidden states: q . (Wk x) = (Wk^T q) . x and sum p (Wv x + b) = Wv (sum p x) + b, so each of H * G
// "probes"
//   Wk^T q runs an attention of width E whose keys and values are both the hidden states;
// - by full projections of keys and values, as transformers does.
// Rows of the batch go in waves, which bounds the memory; every pass runs over all rows of a wave at once.
// Compiled once for each instruction set; see common/cpu_arch.h. The cut into tasks hangs on sizes and mask alone, so
// any number of threads gives the same bits.
#include "common/parallel.h"
#include "common/positions.h"
#include "common/projection.h"
#include "common/row_attention.h"
#include "global_token_attention/arguments.h"
#include "global_token_attention/kernel.h"

namespace lat::LAT_ARCH {
namespace {

// Tokens of one task of a projection: enough to pay for the transposed weights.
constexpr int64_t kProjectedRows = 1024;
// Few probes leave few tasks, so the sequence is cut too, into pieces of at least so many tokens, up to so many tasks.
constexpr int64_t kTokensPerPiece = 128;
constexpr int64_t kTasks = kMostParts;
// Rows of the batch that are in work at once: so many, and no more memory than so many floats (256 MB) takes, or one.
constexpr int64_t kWave = 16;
constexpr int64_t kWaveFloats = int64_t{1} << 26;

// Keys at a time, so that queries, context and keys of this width stay in the second-level cache.
int64_t chunk_of(int64_t width) { return larger_of(16, smaller_of(128, 49152 / width)); }

int64_t attention_floats(int64_t width) {
  const int64_t chunk = chunk_of(width);
  return RowAttention::floats(width, chunk) + KeyChunk::floats(width, chunk);
}

// The sizes and the form of one row of the batch, and where it keeps what its passes hand on to each other.
struct BatchRow {
  BatchRow() = default;
  BatchRow(const lat_global_token_attention_args& args, const Positions& globals, int64_t batch)
      : batch(batch), count(globals.count(batch)), place(globals.of(batch)) {
    const int64_t heads = args.num_heads, width = args.width;
    // The full projections' products run at 0.8 of the rate of the probes' (README, measured).
    from_hidden_states =
        args.form == LAT_BY_COST ? 4 * heads * count < 5 * (width + count) : args.form == LAT_FROM_HIDDEN_STATES;
    rows = heads * count;
    blocks = pieces(rows, kPanelRows);
    cuts = count == 0 ? 0 : larger_of(1, smaller_of(kTasks / blocks, pieces(args.tokens, kTokensPerPiece)));
    const int64_t large = from_hidden_states ? 2 * rows * width + blocks * cuts * RowAttention::part_floats(width)
                                             : 3 * args.tokens * width;
    floats = count == 0 ? 0 : round_up(3 * count * width + large, 16);
  }

  void keep_in(float* memory, const lat_global_token_attention_args& args) {
    hidden = memory;
    query = hidden + count * args.width;
    context = query + count * args.width;
    float* rest = context + count * args.width;
    if (from_hidden_states) {
      probes = rest;
      mixed = probes + rows * args.width;
      parts = mixed + rows * args.width;
    } else {
      keys = rest;
      values = keys + args.tokens * args.width;
      all_hidden = values + args.tokens * args.width;
    }
  }

  int64_t batch = 0, count = 0;    // the row of the batch, and its G
  const int32_t* place = nullptr;  // [G]
  bool from_hidden_states = true;
  int64_t rows = 0, blocks = 0, cuts = 0;  // H * G probes, in blocks of 64; cuts of the sequence
  int64_t floats = 0;
  float *hidden = nullptr, *query = nullptr, *context = nullptr;    // [G][E]
  float *probes = nullptr, *mixed = nullptr;                        // [H][G][E]
  float* parts = nullptr;                                           // [blocks][cuts]: see RowAttention::save
  float *keys = nullptr, *values = nullptr, *all_hidden = nullptr;  // [N][E]
};

class GlobalRows {
 public:
  GlobalRows(const lat_global_token_attention_args& args, const lat_parallel& parallel, const Positions& globals)
      : args_(args),
        parallel_(parallel),
        globals_(globals),
        width_(args.width),
        heads_(args.num_heads),
        head_size_(args.width / args.num_heads),
        scratch_floats_(scratch_floats(args)),
        query_weight_(weight(args.query_weight)),
        key_weight_(weight(args.key_weight)),
        value_weight_(weight(args.value_weight)) {}

  // Of one thread.
  static int64_t scratch_floats(const lat_global_token_attention_args& args) {
    const int64_t width = args.width, head_size = width / args.num_heads;
    const int64_t attention = larger_of(attention_floats(width), attention_floats(head_size));
    return round_up(larger_of(larger_of(projection_floats(width), (head_size + kPanelRows) * kPanelRows), attention),
                    16);
  }

  // The rows of the batch from `first` on that make one wave; returns how many, and the floats that they keep.
  int64_t wave_from(int64_t first, int64_t& floats) const {
    floats = 0;
    int64_t end = first;
    for (; end < smaller_of(args_.batch, first + kWave); ++end) {
      const int64_t more = BatchRow(args_, globals_, end).floats;
      if (end > first && floats + more > kWaveFloats) break;
      floats += more;
    }
    return end - first;
  }

  int64_t most_wave_floats() const {
    int64_t most = 0, floats = 0;
    for (int64_t first = 0; first < args_.batch; first += wave_from(first, floats)) {
      wave_from(first, floats);
      most = larger_of(most, floats);
    }
    return most;
  }

  // `biases` has 2 E floats.
  void run(float* memory, float* scratch, float* biases) {
    scratch_ = scratch;
    query_bias_ = biases;
    value_bias_ = biases + width_;
    Rows(args_.dtype, args_.query_bias, 0, 0, width_).read(0, query_bias_);
    Rows(args_.dtype, args_.value_bias, 0, 0, width_).read(0, value_bias_);
    const int64_t blocks = pieces(args_.tokens, kPanelRows);
    for_each_piece(parallel_, args_.batch * blocks, scratch_, scratch_floats_,
                   [&](int64_t task, float*) { clear(task / blocks, task % blocks * kPanelRows); });
    int64_t floats = 0;
    for (int64_t first = 0, rows = 0; first < args_.batch; first += rows) {
      rows = wave_from(first, floats);
      attend(first, rows, memory);
    }
  }

 private:
  void attend(int64_t first, int64_t rows, float* memory) {
    wave_.count = rows;
    for (int64_t at = 0; at < rows; ++at) {
      BatchRow& row = wave_.row[at];
      row = BatchRow(args_, globals_, first + at);
      row.keep_in(memory, args_);
      memory += row.floats;
    }
    const int64_t panels = pieces(width_, kPanelRows), blocks = pieces(args_.tokens, kPanelRows);
    pass<&GlobalRows::read_global>([&](const BatchRow& row) { return row.count; });
    pass<&GlobalRows::make_queries>([&](const BatchRow& row) { return row.count > 0 ? panels : 0; });
    pass<&GlobalRows::make_probes>([&](const BatchRow& row) { return probing(row) ? heads_ : 0; });
    pass<&GlobalRows::mix_piece>([&](const BatchRow& row) { return probing(row) ? row.blocks * row.cuts : 0; });
    pass<&GlobalRows::join_pieces>([&](const BatchRow& row) { return probing(row) ? row.blocks * panels : 0; });
    pass<&GlobalRows::make_context>([&](const BatchRow& row) { return probing(row) ? heads_ : 0; });
    pass<&GlobalRows::read_hidden>([&](const BatchRow& row) { return projecting(row) ? blocks : 0; });
    pass<&GlobalRows::make_keys_and_values>(
        [&](const BatchRow& row) { return projecting(row) ? 2 * panels * pieces(args_.tokens, kProjectedRows) : 0; });
    pass<&GlobalRows::attend_head>(
        [&](const BatchRow& row) { return projecting(row) ? heads_ * pieces(row.count, kPanelRows) : 0; });
    pass<&GlobalRows::write_global>([&](const BatchRow& row) { return row.count; });
  }

  static bool probing(const BatchRow& row) { return row.count > 0 && row.from_hidden_states; }
  static bool projecting(const BatchRow& row) { return row.count > 0 && !row.from_hidden_states; }

  // Runs `Step(row, index, scratch)` for all rows of the wave and every index below `tasks(row)`.
  template <void (GlobalRows::*Step)(const BatchRow&, int64_t, float*), class Tasks>
  void pass(const Tasks& tasks) {
    int64_t end[kWave], all = 0;
    for (int64_t at = 0; at < wave_.count; ++at) end[at] = all += tasks(wave_.row[at]);
    for_each_piece(parallel_, all, scratch_, scratch_floats_, [&](int64_t task, float* own) {
      int64_t at = 0;
      while (task >= end[at]) ++at;
      (this->*Step)(wave_.row[at], at > 0 ? task - end[at - 1] : task, own);
    });
  }

  void clear(int64_t batch, int64_t first) {
    const Rows output(args_.dtype, args_.output, batch, 0, width_);
    for (int64_t token = first; token < smaller_of(first + kPanelRows, args_.tokens); ++token)
      output.write_zeros(token);
  }

  void read_global(const BatchRow& row, int64_t index, float*) {
    hidden(row).read(row.place[index], row.hidden + index * width_);
  }

  void write_global(const BatchRow& row, int64_t index, float*) {
    Rows(args_.dtype, args_.output, row.batch, 0, width_).write(row.place[index], row.context + index * width_);
  }

  void make_queries(const BatchRow& row, int64_t panel, float* scratch) {
    project(row.hidden, width_, row.count, query_weight_, query_bias_, width_, panel * kPanelRows,
            smaller_of(width_, (panel + 1) * kPanelRows), row.query, width_, scratch);
  }

  // [H][G][E]: a head's queries times its rows of the key weight.
  void make_probes(const BatchRow& row, int64_t head, float* scratch) {
    float *panel = scratch, *tile = panel + head_size_ * kPanelRows;  // [D][64], [64][64]
    for (int64_t column = 0; column < width_; column += kPanelRows) {
      const int64_t columns = smaller_of(kPanelRows, width_ - column);
      const Rows weights(args_.dtype, args_.key_weight, width_, column, columns);
      for (int64_t d = 0; d < head_size_; ++d)
        weights.read(head * head_size_ + d, panel + d * kPanelRows, round_up(columns, kLanes));
      for (int64_t first = 0; first < row.count; first += kPanelRows) {
        const int64_t block = smaller_of(kPanelRows, row.count - first);
        multiply<Sum::set>(block, round_up(columns, kLanes), head_size_,
                           {row.query + first * width_ + head * head_size_, width_, 1}, {panel, kPanelRows},
                           {tile, kPanelRows});
        for (int64_t i = 0; i < block; ++i)
          std::memcpy(row.probes + (head * row.count + first + i) * width_ + column, tile + i * kPanelRows,
                      static_cast<std::size_t>(columns) * sizeof(float));
      }
    }
  }

  // 64 probes over a piece of the sequence: the largest score, the sum and the context of each.
  void mix_piece(const BatchRow& row, int64_t index, float* scratch) {
    const int64_t chunk = chunk_of(width_), block = index / row.cuts, cut = index % row.cuts;
    RowAttention attention(scratch, width_);
    KeyChunk keys(attention, width_, chunk, scratch + RowAttention::floats(width_, chunk));
    keys.keys_are_values();
    attention.start(row.probes + block * kPanelRows * width_, width_,
                    smaller_of(kPanelRows, row.rows - block * kPanelRows), args_.scale);
    const Rows tokens = hidden(row);
    for (int64_t at = args_.tokens * cut / row.cuts; at < args_.tokens * (cut + 1) / row.cuts; ++at) {
      if (mask(row)[at] == LAT_PADDING) continue;
      tokens.read(at, keys.key());
      keys.added();
    }
    keys.flush();
    attention.save(row.parts + index * RowAttention::part_floats(width_));
  }

  // The pieces of 64 probes, in their order, to the mixed hidden states [H][G][E], for 64 columns.
  void join_pieces(const BatchRow& row, int64_t index, float*) {
    const int64_t panels = pieces(width_, kPanelRows), block = index / panels, from = index % panels * kPanelRows;
    join_parts(row.parts + block * row.cuts * RowAttention::part_floats(width_), row.cuts, width_,
               smaller_of(kPanelRows, row.rows - block * kPanelRows), from, smaller_of(width_, from + kPanelRows),
               row.mixed + block * kPanelRows * width_, width_);
  }

  void make_context(const BatchRow& row, int64_t head, float* scratch) {
    project(row.mixed + head * row.count * width_, width_, row.count, value_weight_, value_bias_, width_,
            head * head_size_, (head + 1) * head_size_, row.context, width_, scratch);
  }

  void read_hidden(const BatchRow& row, int64_t block, float*) {
    const int64_t first = block * kPanelRows;
    hidden(row).read(first, smaller_of(kPanelRows, args_.tokens - first), row.all_hidden + first * width_, width_);
  }

  void make_keys_and_values(const BatchRow& row, int64_t index, float* scratch) {
    const int64_t panels = pieces(width_, kPanelRows), first = index / 2 / panels * kProjectedRows,
                  from = index / 2 % panels * kPanelRows;
    const bool key = index % 2 == 0;
    project(row.all_hidden + first * width_, width_, smaller_of(kProjectedRows, args_.tokens - first),
            key ? key_weight_ : value_weight_, key ? nullptr : value_bias_, width_, from,
            smaller_of(width_, from + kPanelRows), (key ? row.keys : row.values) + first * width_, width_, scratch);
  }

  // 64 global rows of one head over all tokens.
  void attend_head(const BatchRow& row, int64_t index, float* scratch) {
    const int64_t chunk = chunk_of(head_size_), head = index % heads_, first = index / heads_ * kPanelRows;
    const int64_t rows = smaller_of(kPanelRows, row.count - first), offset = head * head_size_;
    RowAttention attention(scratch, head_size_);
    KeyChunk keys(attention, head_size_, chunk, scratch + RowAttention::floats(head_size_, chunk));
    attention.start(row.query + first * width_ + offset, width_, rows, args_.scale);
    const std::size_t bytes = static_cast<std::size_t>(head_size_) * sizeof(float);
    for (int64_t at = 0; at < args_.tokens; ++at) {
      if (mask(row)[at] == LAT_PADDING) continue;
      std::memcpy(keys.key(), row.keys + at * width_ + offset, bytes);
      std::memcpy(keys.value(), row.values + at * width_ + offset, bytes);
      keys.added();
    }
    keys.flush();
    attention.finish(row.context + first * width_ + offset, width_, rows);
  }

  Rows weight(const void* data) const { return Rows(args_.dtype, data, width_, 0, width_); }
  Rows hidden(const BatchRow& row) const { return Rows(args_.dtype, args_.hidden_states, row.batch, 0, width_); }
  const int32_t* mask(const BatchRow& row) const { return args_.attention_mask + row.batch * args_.tokens; }

  const lat_global_token_attention_args& args_;
  const lat_parallel& parallel_;
  const Positions& globals_;
  int64_t width_, heads_, head_size_, scratch_floats_;
  Rows query_weight_, key_weight_, value_weight_;
  float *scratch_ = nullptr, *query_bias_ = nullptr, *value_bias_ = nullptr;
  struct {
    BatchRow row[kWave];
    int64_t count = 0;
  } wave_;
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
  const Positions globals(args.batch, args.tokens);
  if (!globals) return no_memory(status);
  globals.find(args.attention_mask, is_global);
  GlobalRows rows(args, parallel, globals);
  const Buffer<float> memory(rows.most_wave_floats()), biases(2 * args.width);
  const Buffer<float> scratch(workers_for(parallel, kMostWorkers) * GlobalRows::scratch_floats(args));
  if (!memory || !biases || !scratch) return no_memory(status);
  rows.run(memory.data(), scratch.data(), biases.data());
}

}  // namespace lat::LAT_ARCH

LAT_CPU_ENTRY(global_token_attention)
