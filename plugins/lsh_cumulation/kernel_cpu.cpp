// lat::LshCumulation on the CPU: a table of summed values for every hash, a few tables in cache at a time.
//
// Heads (of all rows of the batch) go in waves of 16, which bounds the scratch; a wave is three passes, each parallel:
//   1. codes: 256 rows x all hashes of one head: projections (columns, rows) by a matrix product, then T signs a code
//   2. sums: one head, a slice of the columns of D: tables of up to 8 hashes within 512 KiB; every key adds its value
//      to its row of each, then every query adds up its rows
//   3. output: the mean over hashes, divided by its norm
// Padded tokens are left out: the tokens that are kept are the sequence. Keys add in their order and hashes in theirs,
// whoever does it. Projections are plain float32 sums over D in order. Compiled once for each instruction set.
#include "common/arguments.h"
#include "common/block_convert.h"
#include "common/block_matmul.h"
#include "common/block_memory.h"
#include "common/block_norm.h"
#include "common/block_parallel.h"
#include "common/block_tokens.h"
#include "lsh_cumulation/kernel.h"

namespace lat::LAT_ARCH {
namespace {

constexpr int64_t kWave = 16;              // heads
constexpr int64_t kPanel = 64;             // rows of one product
constexpr int64_t kBlock = 4 * kPanel;     // rows of one piece of passes 1 and 3
constexpr int64_t kColumns = 96;           // most columns of a product, unless one hash has more
constexpr int64_t kTableFloats = 1 << 17;  // of all tables in use, where one fits
constexpr int kMostTables = 8;
#if defined(__AVX512F__)
constexpr int kSliceVectors = 2;
#else
constexpr int kSliceVectors = 4;
#endif
constexpr int64_t kSlice = kSliceVectors * kLanes;

typedef uint16_t CodeVec __attribute__((vector_size(kLanes * 2)));

// Sizes that every pass needs.
struct Plan {
  explicit Plan(const lat_lsh_cumulation_args& args)
      : args(args),
        heads(args.batch * args.num_heads),
        wave(smaller(kWave, heads)),
        head_size(args.width / args.num_heads),
        padded(round_up(head_size, kLanes)),
        rows(round_up(args.tokens, kPanel)),
        blocks((args.tokens + kBlock - 1) / kBlock),
        slices((padded + kSlice - 1) / kSlice),
        columns(args.num_hash * args.hash_code_len),
        hashes_at_once(kColumns / args.hash_code_len),
        table_rows(int64_t{1} << args.hash_code_len) {}

  int64_t codes_of_head() const { return 2 * args.num_hash * rows; }
  int64_t sums_of_head() const { return args.tokens * padded; }
  int64_t projection_floats() const { return args.dtype == LAT_FLOAT32 ? 0 : round_up(head_size * columns, 16); }
  int64_t code_floats() const { return kBlock * head_size + padded + kColumns * kPanel + projection_floats(); }
  int64_t tables_at_once(int64_t slice) const {
    int64_t tables = kMostTables;
    while (tables > 1 && tables * table_rows * slice > kTableFloats) tables /= 2;
    return tables;
  }
  int64_t sum_floats() const {
    const int64_t slice = smaller(kSlice, padded);
    return args.tokens * slice + tables_at_once(slice) * table_rows * slice;
  }
  int64_t floats() const {
    const int64_t code = code_floats(), sum = sum_floats();
    return round_up(code > sum ? code : sum, 16);
  }

  const lat_lsh_cumulation_args& args;
  int64_t heads, wave, head_size, padded, rows, blocks, slices, columns, hashes_at_once, table_rows;
};

// One head of one row of the batch, and its part of what the passes hand on.
class Head {
 public:
  Head(const Plan& plan, const Tokens& tokens, int64_t head, uint16_t* codes, float* sums)
      : plan_(plan),
        args_(plan.args),
        b_(head / args_.num_heads),
        h_(head % args_.num_heads),
        count_(tokens.count(b_)),
        positions_(tokens.of(b_)),
        codes_(codes),
        sums_(sums) {}

  // Pass 1, of the queries (`side` 0) or keys (1).
  void find_codes(int64_t side, int64_t start, float* scratch) const {
    const int64_t rows = smaller(kBlock, count_ - start), size = plan_.head_size;
    if (rows <= 0) return;
    float *panels = scratch, *products = panels + kBlock * size, *row = products + kColumns * kPanel;
    pack_rows(rows_of(side == 0 ? args_.query : args_.key, 0, size), start, rows, panels, row);
    const float* projection = projection_of_head(row + plan_.padded);
    for (int64_t r = 0; r < args_.num_hash; r += plan_.hashes_at_once) {
      const int64_t hashes = smaller(plan_.hashes_at_once, args_.num_hash - r);
      for (int64_t i = 0; i < rows; i += kPanel) {
        const int64_t used = round_up(smaller(kPanel, rows - i), kLanes);
        multiply<Start::kZero>(hashes * args_.hash_code_len, used, size,
                               {projection + r * args_.hash_code_len, 1, plan_.columns}, {panels + i * size, kPanel},
                               {products, kPanel});
        for (int64_t hash = 0; hash < hashes; ++hash) {
          signs_to_codes(products + hash * args_.hash_code_len * kPanel, used, codes(side, r + hash) + start + i);
        }
      }
    }
  }

  // Pass 2, of columns [slice * kSlice, ...) of D.
  void add_up(int64_t slice, float* scratch) const {
    const int64_t first = slice * kSlice;
    switch (smaller(kSlice, plan_.padded - first) / kLanes) {
      case 1:
        return add_up_slice<1>(first, scratch);
      case 2:
        return add_up_slice<2>(first, scratch);
#if !defined(__AVX512F__)
      case 3:
        return add_up_slice<3>(first, scratch);
      default:
        return add_up_slice<4>(first, scratch);
#endif
    }
  }

  // Pass 3.
  void write_rows(int64_t start) const {
    const Vec hashes = splat(static_cast<float>(args_.num_hash));
    const Rows output = rows_of(args_.output, 0, plan_.head_size);
    for (int64_t i = start; i < smaller(start + kBlock, count_); ++i) {
      float* row = sums_ + i * plan_.padded;
      for (int64_t d = 0; d < plan_.padded; d += kLanes) store(row + d, load(row + d) / hashes);
      normalize_row(row, plan_.padded);
      output.write(positions_[i], row);
    }
  }

 private:
  // Columns `first` to `first + size` of this head.
  Rows rows_of(const lat_rows& all, int64_t first, int64_t size) const {
    return Rows(args_.dtype, all, b_, h_ * plan_.head_size + first, size);
  }

  uint16_t* codes(int64_t side, int64_t hash) const { return codes_ + (side * args_.num_hash + hash) * plan_.rows; }

  const float* projection_of_head(float* converted) const {
    const int64_t count = plan_.head_size * plan_.columns;
    if (args_.dtype == LAT_FLOAT32) return static_cast<const float*>(args_.projection) + h_ * count;
    load_row(static_cast<lat_dtype>(args_.dtype), args_.projection, h_ * count, count, converted, count);
    return converted;
  }

  // By panel: (D, 64), zeros beyond the last row.
  void pack_rows(const Rows& from, int64_t start, int64_t rows, float* panels, float* row) const {
    const int64_t size = plan_.head_size;
    for (int64_t i = 0; i < round_up(rows, kPanel); ++i) {
      float* column = panels + i / kPanel * (kPanel * size) + i % kPanel;
      if (i + kRowsAhead < rows) from.prefetch(positions_[start + i + kRowsAhead]);
      if (i < rows) from.read(positions_[start + i], row, size);
      for (int64_t d = 0; d < size; ++d) column[d * kPanel] = i < rows ? row[d] : 0.0f;
    }
  }

  void signs_to_codes(const float* products, int64_t rows, uint16_t* to) const {
    for (int64_t i = 0; i < rows; i += kLanes) {
      IntVec code{};
      for (int64_t t = 0; t < args_.hash_code_len; ++t) code |= (load(products + t * kPanel + i) > 0.0f) & (1 << t);
      const CodeVec narrow = __builtin_convertvector(code, CodeVec);
      __builtin_memcpy(to + i, &narrow, sizeof narrow);
    }
  }

  template <int kVectors>
  void add_up_slice(int64_t first, float* scratch) const {
    constexpr int64_t kWidth = kVectors * kLanes;
    float *values = scratch, *tables = scratch + count_ * kWidth;
    const Rows from = rows_of(args_.value, first, smaller(kWidth, plan_.head_size - first));
    for (int64_t j = 0; j < count_; ++j) {
      if (j + kRowsAhead < count_) from.prefetch(positions_[j + kRowsAhead]);
      from.read(positions_[j], values + j * kWidth, kWidth);
    }
    const int64_t at_once = plan_.tables_at_once(kWidth);
    for (int64_t r = 0; r < args_.num_hash;) {
      const int64_t left = args_.num_hash - r;
      if (at_once >= 8 && left >= 8) {
        add_hashes<kVectors, 8>(r, values, tables, first), r += 8;
      } else if (at_once >= 4 && left >= 4) {
        add_hashes<kVectors, 4>(r, values, tables, first), r += 4;
      } else if (at_once >= 2 && left >= 2) {
        add_hashes<kVectors, 2>(r, values, tables, first), r += 2;
      } else {
        add_hashes<kVectors, 1>(r, values, tables, first), r += 1;
      }
    }
  }

  template <int kVectors, int kTables>
  void add_hashes(int64_t r, const float* values, float* tables, int64_t first) const {
    constexpr int64_t kWidth = kVectors * kLanes;
    const int64_t table = plan_.table_rows * kWidth;
    const uint16_t *of_query[kTables], *of_key[kTables];
    for (int g = 0; g < kTables; ++g) of_query[g] = codes(0, r + g), of_key[g] = codes(1, r + g);
    clear<kVectors, kTables>(of_query, of_key, tables);
    for (int64_t j = 0; j < count_; ++j) {
      Vec value[kVectors];
      for (int v = 0; v < kVectors; ++v) value[v] = load(values + j * kWidth + v * kLanes);
#pragma GCC unroll 8
      for (int g = 0; g < kTables; ++g) {
        float* row = tables + g * table + of_key[g][j] * kWidth;
        for (int v = 0; v < kVectors; ++v) store(row + v * kLanes, load(row + v * kLanes) + value[v]);
      }
    }
    for (int64_t i = 0; i < count_; ++i) {
      float* sum = sums_ + i * plan_.padded + first;
      Vec found[kVectors];
      for (int v = 0; v < kVectors; ++v) found[v] = r == 0 ? Vec{} : load(sum + v * kLanes);
#pragma GCC unroll 8
      for (int g = 0; g < kTables; ++g) {
        const float* row = tables + g * table + of_query[g][i] * kWidth;
        for (int v = 0; v < kVectors; ++v) found[v] += load(row + v * kLanes);
      }
      for (int v = 0; v < kVectors; ++v) store(sum + v * kLanes, found[v]);
    }
  }

  // Only the rows that will be met, where those are fewer than all.
  template <int kVectors, int kTables>
  void clear(const uint16_t* const* of_query, const uint16_t* const* of_key, float* tables) const {
    constexpr size_t kBytes = kVectors * kLanes * sizeof(float);
    if (2 * count_ >= plan_.table_rows) {
      __builtin_memset(tables, 0, static_cast<size_t>(kTables * plan_.table_rows) * kBytes);
      return;
    }
    for (int g = 0; g < kTables; ++g) {
      char* table = reinterpret_cast<char*>(tables) + static_cast<size_t>(g * plan_.table_rows) * kBytes;
      for (int64_t i = 0; i < count_; ++i) {
        __builtin_memset(table + of_query[g][i] * kBytes, 0, kBytes);
        __builtin_memset(table + of_key[g][i] * kBytes, 0, kBytes);
      }
    }
  }

  const Plan& plan_;
  const lat_lsh_cumulation_args& args_;
  int64_t b_, h_, count_;
  const int64_t* positions_;
  uint16_t* codes_;
  float* sums_;
};

bool check(const lat_lsh_cumulation_args& args, lat_status& status) {
  ArgumentCheck check(status);
  check.attention(args);
  check.size("num_hash", args.num_hash);
  check.range("hash_code_len", args.hash_code_len, 1, 16);
  check.elements("projection", args.width, args.num_hash, args.hash_code_len);
  check.elements("hash codes", kWave, 2, args.tokens, args.num_hash);
  check.pointer("projection", args.projection);
  return check.passed();
}

}  // namespace

void lsh_cumulation(const lat_lsh_cumulation_args& args, const lat_parallel& parallel, lat_status& status) {
  if (!check(args, status)) return;
  const Plan plan(args);
  const int64_t floats = plan.floats(),
                most_pieces = plan.wave * (2 * plan.blocks > plan.slices ? 2 * plan.blocks : plan.slices);
  const Tokens tokens(args.batch, args.tokens);
  const Buffer<uint16_t> codes(plan.wave * plan.codes_of_head());
  const Buffer<float> sums(plan.wave * plan.sums_of_head()), scratch(workers_for(parallel, most_pieces) * floats);
  if (!tokens || !codes || !sums || !scratch) return fail(status, LAT_NO_MEMORY, "no memory for scratch");
  tokens.find(args.attention_mask);
  zero_padded_rows(args.dtype, args.attention_mask, args.batch, args.tokens, args.width, args.output);
  for (int64_t first = 0; first < plan.heads; first += plan.wave) {
    const int64_t heads = smaller(plan.wave, plan.heads - first);
    const auto head = [&](int64_t index) {
      return Head(plan, tokens, first + index, codes.data() + index * plan.codes_of_head(),
                  sums.data() + index * plan.sums_of_head());
    };
    for_each_piece(parallel, heads * 2 * plan.blocks, scratch.data(), floats, [&](int64_t piece, float* own) {
      const int64_t side = piece / plan.blocks;
      head(side / 2).find_codes(side % 2, piece % plan.blocks * kBlock, own);
    });
    for_each_piece(parallel, heads * plan.slices, scratch.data(), floats,
                   [&](int64_t piece, float* own) { head(piece / plan.slices).add_up(piece % plan.slices, own); });
    for_each_piece(parallel, heads * plan.blocks, scratch.data(), floats,
                   [&](int64_t piece, float*) { head(piece / plan.blocks).write_rows(piece % plan.blocks * kBlock); });
  }
}

}  // namespace lat::LAT_ARCH

LAT_CPU_ENTRY(lsh_cumulation)
