// lat::BernoulliExpectation on the CPU: tiles of keys x queries, never the N x N matrix.
//
// A piece of work is 256 or 512 queries of one head. It walks over tiles of 96 keys; for each and 64 queries at a time
//   weights (keys, queries) = collision_rate(unit keys x unit queries^T)^T     matrix product, then in place
//   context (queries, D)   += weights^T x values                              matrix product
// Queries are transposed once a piece, so that both products read rows of whole vectors. Padded keys are never met and
// padded queries never computed: the tokens that are left are the sequence. Compiled once for each instruction set.
#include "bernoulli_expectation/kernel.h"
#include "common/arguments.h"
#include "common/block_convert.h"
#include "common/block_math.h"
#include "common/block_matmul.h"
#include "common/block_memory.h"
#include "common/block_norm.h"
#include "common/block_parallel.h"
#include "common/block_tokens.h"

namespace lat::LAT_ARCH {
namespace {

constexpr int64_t kPanel = 64;  // queries of one product
constexpr int64_t kTile = 96;   // keys

// Queries of one piece of work: more of them share the loading of the keys, fewer spread over more threads.
int64_t block_of(int64_t tokens) { return (tokens < 2048 ? 4 : 8) * kPanel; }

// Where one piece keeps what it works on; `Scratch::floats` is its size.
struct Scratch {
  float *queries, *contexts, *keys, *values, *weights;

  static int64_t floats(int64_t block, int64_t head_size, int64_t padded) {
    return block * head_size + block * padded + 2 * kTile * padded + kTile * kPanel;
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
  Head(const lat_bernoulli_expectation_args& args, const Tokens& tokens, int64_t b, int64_t h)
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
    const int64_t queries = smaller(most, count_ - start);
    if (queries <= 0) return;
    const int64_t panels = (queries + kPanel - 1) / kPanel;
    pack_queries(start, queries, at);
    __builtin_memset(at.contexts, 0, static_cast<size_t>(panels * kPanel * padded_) * sizeof(float));
    for (int64_t tile = 0; tile < count_; tile += kTile) {
      const int64_t keys = smaller(kTile, count_ - tile);
      for (int64_t j = 0; j < keys; ++j) {
        fetch(tile + j + kRowsAhead);
        key_.read(positions_[tile + j], at.keys + j * padded_, padded_);
        normalize_row(at.keys + j * padded_, padded_);
        value_.read(positions_[tile + j], at.values + j * padded_, padded_);
      }
      for (int64_t panel = 0; panel < panels; ++panel) {
        add_tile(keys, smaller(kPanel, queries - panel * kPanel), panel, at);
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

  // Unit queries by panel: (D, 64), zeros beyond the last.
  void pack_queries(int64_t start, int64_t queries, const Scratch& at) const {
    const int64_t size = size_;
    float* row = at.keys;  // not yet in use
    for (int64_t i = 0; i < round_up(queries, kPanel); ++i) {
      float* column = at.queries + i / kPanel * (kPanel * size) + i % kPanel;
      if (i < queries) {
        query_.read(positions_[start + i], row, padded_);
        normalize_row(row, padded_);
      }
      for (int64_t d = 0; d < size; ++d) column[d * kPanel] = i < queries ? row[d] : 0.0f;
    }
  }

  void add_tile(int64_t keys, int64_t queries, int64_t panel, const Scratch& at) const {
    const int64_t size = size_, columns = round_up(queries, kLanes);
    multiply<Start::kZero>(keys, columns, size, {at.keys, padded_, 1}, {at.queries + panel * kPanel * size, kPanel},
                           {at.weights, kPanel});
    for (int64_t j = 0; j < keys; ++j) {
      for (int64_t i = 0; i < columns; i += kPowersAtOnce) {  // what it meets beyond `columns` is never read
        collision_rates_to_power(at.weights + j * kPanel + i, args_.hash_code_len);
      }
    }
    multiply<Start::kResult>(queries, padded_, keys, {at.weights, 1, kPanel}, {at.values, padded_},
                             {at.contexts + panel * kPanel * padded_, padded_});
  }

  const lat_bernoulli_expectation_args& args_;
  int64_t count_;
  const int64_t* positions_;
  int64_t size_, padded_;
  Rows query_, key_, value_, output_;
};

bool check(const lat_bernoulli_expectation_args& args, lat_status& status) {
  ArgumentCheck check(status);
  check.attention(args);
  check.size("hash_code_len", args.hash_code_len);
  return check.passed();
}

}  // namespace

void bernoulli_expectation(const lat_bernoulli_expectation_args& args, const lat_parallel& parallel,
                           lat_status& status) {
  if (!check(args, status)) return;
  const int64_t block = block_of(args.tokens), size = args.width / args.num_heads;
  const int64_t blocks = (args.tokens + block - 1) / block, pieces = args.batch * args.num_heads * blocks;
  const int64_t floats = round_up(Scratch::floats(block, size, round_up(size, kLanes)), 16);
  const Tokens tokens(args.batch, args.tokens);
  const Buffer<float> scratch(workers_for(parallel, pieces) * floats);
  if (!tokens || !scratch) return fail(status, LAT_NO_MEMORY, "no memory for scratch");
  tokens.find(args.attention_mask);
  zero_padded_rows(args.dtype, args.attention_mask, args.batch, args.tokens, args.width, args.output);
  for_each_piece(parallel, pieces, scratch.data(), floats, [&](int64_t piece, float* own) {
    const int64_t head = piece / blocks;
    Head(args, tokens, head / args.num_heads, head % args.num_heads).block(piece % blocks * block, block, own);
  });
}

}  // namespace lat::LAT_ARCH

LAT_CPU_ENTRY(bernoulli_expectation)
