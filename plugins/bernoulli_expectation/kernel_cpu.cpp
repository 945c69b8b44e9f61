// lat::BernoulliExpectation on the CPU: tiles of keys x queries, never the N x N matrix.
//
// A piece of work is 256 or 512 queries of one head. It walks over tiles of 96 keys; for each and 64 queries at a time
//   weights (keys, queries) = collision_rate(unit keys x unit queries^T)^T     matrix product, then in place
//   context (queries, D)   += weights^T x values                              matrix product
// Queries are transposed once a piece, so that both products read rows of whole vectors. Padded keys are never met and
// padded queries never computed: the tokens that are left are the sequence. Compiled once for each instruction set.
#include "bernoulli_expectation/arguments.h"
#include "bernoulli_expectation/kernel.h"
#include "common/matrix_product.h"
#include "common/panel.h"
#include "common/parallel.h"
#include "common/positions.h"
#include "common/unit_row.h"
#include "common/vector_math.h"

namespace lat::LAT_ARCH {
namespace {

constexpr int64_t kTile = 96;  // keys of one product; no fewer than rows of a panel

// Queries of one piece of work: more of them share the loading of the keys, fewer spread over more threads.
int64_t block_of(int64_t tokens) { return (tokens < 2048 ? 4 : 8) * kPanelRows; }

// Where one piece keeps what it works on; `Scratch::floats` is its size.
struct Scratch {
  float *queries, *contexts, *keys, *values, *weights;

  static int64_t floats(int64_t block, int64_t head_size, int64_t padded) {
    return block * head_size + block * padded + 2 * kTile * padded + kTile * kPanelRows;
  }
  Scratch(float* from, int64_t block, int64_t head_size, int64_t padded)
      : queries(from),
        contexts(queries + block * head_size),
        keys(contexts + block * padded),
        values(keys + kTile * padded),
        weights(values + kTile * padded) {}
};

// One head of one row of the batch.
class Head {
 public:
  Head(const lat_bernoulli_expectation_args& args, const Positions& tokens, int64_t b, int64_t h)
      : args_(args),
        count_(tokens.count(b)),
        positions_(tokens.of(b)),
        size_(args.width / args.num_heads),
        padded_(round_up(size_, kLanes)),
        query_(args.dtype, args.query, b, h * size_, size_),
        key_(args.dtype, args.key, b, h * size_, size_),
        value_(args.dtype, args.value, b, h * size_, size_),
        output_(args.dtype, args.output, b, h * size_, size_) {}

  void block(int64_t start, int64_t most, float* scratch) const {
    const Scratch at(scratch, most, size_, padded_);
    const int64_t queries = smaller_of(most, count_ - start);
    if (queries <= 0) return;
    const int64_t panels = pieces(queries, kPanelRows);
    pack_queries(start, queries, at);
    __builtin_memset(at.contexts, 0, static_cast<size_t>(panels * kPanelRows * padded_) * sizeof(float));
    for (int64_t tile = 0; tile < count_; tile += kTile) {
      const int64_t keys = smaller_of(kTile, count_ - tile);
      for (int64_t j = 0; j < keys; ++j) {
        fetch(tile + j + Rows::kRowsAhead);
        key_.read(positions_[tile + j], at.keys + j * padded_, padded_);
        normalize_row(at.keys + j * padded_, padded_);
        value_.read(positions_[tile + j], at.values + j * padded_, padded_);
      }
      for (int64_t panel = 0; panel < panels; ++panel) {
        add_tile(keys, smaller_of(kPanelRows, queries - panel * kPanelRows), panel, at);
      }
    }
    for (int64_t i = 0; i < queries; ++i) {
      normalize_row(at.contexts + i * padded_, padded_);
      output_.write(positions_[start + i], at.contexts + i * padded_);
    }
  }

 private:
  void fetch(int64_t token) const {
    if (token >= count_) return;
    key_.prefetch(positions_[token]);
    value_.prefetch(positions_[token]);
  }

  // Unit queries by panel, (D, 64).
  void pack_queries(int64_t start, int64_t queries, const Scratch& at) const {
    float* rows = at.keys;  // not yet in use
    for (int64_t first = 0; first < queries; first += kPanelRows) {
      const int64_t count = smaller_of(kPanelRows, queries - first);
      for (int64_t i = 0; i < count; ++i) {
        query_.read(positions_[start + first + i], rows + i * padded_, padded_);
        normalize_row(rows + i * padded_, padded_);
      }
      to_panel(rows, padded_, count, size_, 1.0f, at.queries + first * size_);
    }
  }

  void add_tile(int64_t keys, int64_t queries, int64_t panel, const Scratch& at) const {
    const int64_t size = size_, columns = round_up(queries, kLanes);
    multiply<Sum::set>(keys, columns, size, {at.keys, padded_, 1}, {at.queries + panel * kPanelRows * size, kPanelRows},
                       {at.weights, kPanelRows});
    for (int64_t j = 0; j < keys; ++j) {
      for (int64_t i = 0; i < columns; i += kPowersAtOnce) {  // what it meets beyond `columns` is never read
        collision_rates_to_power(at.weights + j * kPanelRows + i, args_.hash_code_len);
      }
    }
    multiply<Sum::add>(queries, padded_, keys, {at.weights, 1, kPanelRows}, {at.values, padded_},
                       {at.contexts + panel * kPanelRows * padded_, padded_});
  }

  const lat_bernoulli_expectation_args& args_;
  int64_t count_;
  const int32_t* positions_;
  int64_t size_, padded_;
  Rows query_, key_, value_, output_;
};

bool check(const lat_bernoulli_expectation_args& args, lat_status& status) {
  ArgumentCheck check(status);
  check_sizes(check, args);
  check.attention_rows(args);
  return check.passed();
}

}  // namespace

void bernoulli_expectation(const lat_bernoulli_expectation_args& args, const lat_parallel& parallel,
                           lat_status& status) {
  if (!check(args, status)) return;
  const int64_t block = block_of(args.tokens), size = args.width / args.num_heads;
  const int64_t blocks = pieces(args.tokens, block), tasks = args.batch * args.num_heads * blocks;
  const int64_t floats = round_up(Scratch::floats(block, size, round_up(size, kLanes)), 16);
  const Positions tokens(args.batch, args.tokens);
  const Buffer<float> scratch(workers_for(parallel, tasks) * floats);
  if (!tokens || !scratch) return no_memory(status);
  tokens.find(args.attention_mask, is_token);
  zero_padded_rows(args.dtype, args.attention_mask, args.batch, args.tokens, args.width, args.output);
  for_each_piece(parallel, tasks, scratch.data(), floats, [&](int64_t piece, float* own) {
    const int64_t head = piece / blocks;
    Head(args, tokens, head / args.num_heads, head % args.num_heads).block(piece % blocks * block, block, own);
  });
}

}  // namespace lat::LAT_ARCH

LAT_CPU_ENTRY(bernoulli_expectation)
