// lat::LshCumulation on the CPU: a table of summed values for every hash, a few tables in cache at a time.
//
// Heads (of all rows of the batch) go in waves of up to 16, which bounds the scratch; a wave is three parallel passes:
//   1. codes: 256 rows x all hashes of one head: projections (columns, rows) by a matrix product, then T signs a code
//   2. sums: one head, a slice of the columns of D: tables of up to 8 hashes within 512 KiB; every key adds its value
//      to its row of each, then every query adds up its rows
//   3. output: the mean over hashes, divided by its norm
// Padded tokens are left out: the tokens that are kept are the sequence. Keys add in their order and hashes in theirs,
// whoever does it. Projections are plain float32 sums over D in order. Compiled once for each instruction set.
#include "common/matrix_product.h"
#include "common/panel.h"
#include "common/parallel.h"
#include "common/positions.h"
#include "common/unit_row.h"
#include "lsh_cumulation/arguments.h"

namespace lat::LAT_ARCH {
namespace {

constexpr int64_t kWave = 16;               // heads; two a worker where that is fewer
constexpr int64_t kBlock = 4 * kPanelRows;  // rows of one piece of passes 1 and 3
constexpr int64_t kColumns = 96;            // most columns of a product, unless one hash has more
constexpr int64_t kTableFloats = 1 << 17;   // of all tables in use, where one fits
constexpr int kMostTables = 8;
#if defined(__AVX512F__)
constexpr int kSliceVectors = 2;
#else
constexpr int kSliceVectors = 4;
#endif
constexpr int64_t kSlice = kSliceVectors * kLanes;

typedef uint16_t Codes __attribute__((vector_size(kLanes * 2)));

// Sizes that every pass needs.
struct Plan {
  Plan(const lat_lsh_cumulation_args& args, const lat_parallel& parallel)
      : args(args),
        heads(args.batch * args.num_heads),
        wave(smaller_of(2 * workers_for(parallel, kWave / 2), heads)),
        head_size(args.width / args.num_heads),
        padded(round_up(head_size, kLanes)),
        rows(round_up(args.tokens, kPanelRows)),
        blocks(pieces(args.tokens, kBlock)),
        slices(pieces(padded, kSlice)),
        columns(args.num_hash * args.hash_code_len),
        hashes_at_once(kColumns / args.hash_code_len),
        table_rows(int64_t{1} << args.hash_code_len) {}

  int64_t codes_of_head() const { return 2 * args.num_hash * rows; }
  int64_t sums_of_head() const { return args.tokens * padded; }  // slice by slice, each (N, its columns)
  int64_t projection_floats() const { return args.dtype == LAT_FLOAT32 ? 0 : round_up(head_size * columns, 16); }
  int64_t code_floats() const {
    return (kBlock + kPanelRows) * head_size + kColumns * kPanelRows + projection_floats();
  }
  int64_t tables_at_once(int64_t slice) const {
    int64_t tables = kMostTables;
    while (tables > 1 && tables * table_rows * slice > kTableFloats) tables /= 2;
    return tables;
  }
  int64_t sum_floats() const {
    const int64_t slice = smaller_of(kSlice, padded);
    return args.tokens * slice + tables_at_once(slice) * table_rows * slice;
  }
  int64_t floats() const { return round_up(larger_of(code_floats(), sum_floats()), 16); }

  const lat_lsh_cumulation_args& args;
  int64_t heads, wave, head_size, padded, rows, blocks, slices, columns, hashes_at_once, table_rows;
};

// One head of one row of the batch, and its part of what the passes hand on.
class Head {
 public:
  Head(const Plan& plan, const Positions& tokens, int64_t head, uint16_t* codes, float* sums)
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
    const int64_t rows = smaller_of(kBlock, count_ - start), size = plan_.head_size;
    if (rows <= 0) return;
    float *panels = scratch, *products = panels + kBlock * size, *staged = products + kColumns * kPanelRows;
    pack_rows(rows_of(side == 0 ? args_.query : args_.key, 0, size), start, rows, panels, staged);
    const float* projection = projection_of_head(staged + kPanelRows * size);
    for (int64_t r = 0; r < args_.num_hash; r += plan_.hashes_at_once) {
      const int64_t hashes = smaller_of(plan_.hashes_at_once, args_.num_hash - r);
      for (int64_t i = 0; i < rows; i += kPanelRows) {
        const int64_t used = round_up(smaller_of(kPanelRows, rows - i), kLanes);
        multiply<Sum::set>(hashes * args_.hash_code_len, used, size,
                           {projection + r * args_.hash_code_len, 1, plan_.columns}, {panels + i * size, kPanelRows},
                           {products, kPanelRows});
        for (int64_t hash = 0; hash < hashes; ++hash) {
          signs_to_codes(products + hash * args_.hash_code_len * kPanelRows, used, codes(side, r + hash) + start + i);
        }
      }
    }
  }

  // Pass 2, of columns [slice * kSlice, ...) of D.
  void add_up(int64_t slice, float* scratch) const {
    const int64_t first = slice * kSlice;
    switch (smaller_of(kSlice, plan_.padded - first) / kLanes) {
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
  void write_rows(int64_t start, float* row) const {
    const Vector hashes = splat(static_cast<float>(args_.num_hash));
    const Rows output = rows_of(args_.output, 0, plan_.head_size);
    for (int64_t i = start; i < smaller_of(start + kBlock, count_); ++i) {
      for (int64_t first = 0; first < plan_.padded; first += kSlice) {
        const int64_t width = smaller_of(kSlice, plan_.padded - first);
        const float* sum = sums_of_slice(first) + i * width;
        for (int64_t d = 0; d < width; d += kLanes) store(row + first + d, load(sum + d) / hashes);
      }
      normalize_row(row, plan_.padded);
      output.write(positions_[i], row);
    }
  }

 private:
  // Columns `first` to `first + size` of this head.
  Rows rows_of(const lat_rows& all, int64_t first, int64_t size) const {
    return Rows(args_.dtype, all, b_, h_ * plan_.head_size + first, size);
  }

  // Those of one slice side by side: a pass over them meets no line of another's.
  float* sums_of_slice(int64_t first) const { return sums_ + args_.tokens * first; }

  uint16_t* codes(int64_t side, int64_t hash) const { return codes_ + (side * args_.num_hash + hash) * plan_.rows; }

  const float* projection_of_head(float* converted) const {
    const int64_t count = plan_.head_size * plan_.columns;
    if (args_.dtype == LAT_FLOAT32) return static_cast<const float*>(args_.projection) + h_ * count;
    Rows(args_.dtype, args_.projection, count, 0, count).read(h_, converted);
    return converted;
  }

  // By panel, (D, 64); `staged` is room for 64 rows.
  void pack_rows(const Rows& from, int64_t start, int64_t rows, float* panels, float* staged) const {
    const int64_t size = plan_.head_size;
    for (int64_t first = 0; first < rows; first += kPanelRows) {
      const int64_t count = smaller_of(kPanelRows, rows - first);
      for (int64_t i = 0; i < count; ++i) {
        const int64_t at = start + first + i;
        if (at + Rows::kRowsAhead < start + rows) from.prefetch(positions_[at + Rows::kRowsAhead]);
        from.read(positions_[at], staged + i * size);
      }
      to_panel(staged, size, count, size, 1.0f, panels + first * size);
    }
  }

  void signs_to_codes(const float* products, int64_t rows, uint16_t* to) const {
    for (int64_t i = 0; i < rows; i += kLanes) {
      Integers code{};
      for (int64_t t = 0; t < args_.hash_code_len; ++t) code |= (load(products + t * kPanelRows + i) > 0.0f) & (1 << t);
      const Codes narrow = __builtin_convertvector(code, Codes);
      __builtin_memcpy(to + i, &narrow, sizeof narrow);
    }
  }

  template <int kVectors>
  void add_up_slice(int64_t first, float* scratch) const {
    constexpr int64_t kWidth = kVectors * kLanes;
    float *values = scratch, *tables = scratch + count_ * kWidth;
    const Rows from = rows_of(args_.value, first, smaller_of(kWidth, plan_.head_size - first));
    for (int64_t j = 0; j < count_; ++j) {
      if (j + Rows::kRowsAhead < count_) from.prefetch(positions_[j + Rows::kRowsAhead]);
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
      Vector value[kVectors];
      for (int v = 0; v < kVectors; ++v) value[v] = load(values + j * kWidth + v * kLanes);
#pragma GCC unroll 8
      for (int g = 0; g < kTables; ++g) {
        float* row = tables + g * table + of_key[g][j] * kWidth;
        for (int v = 0; v < kVectors; ++v) store(row + v * kLanes, load(row + v * kLanes) + value[v]);
      }
    }
    for (int64_t i = 0; i < count_; ++i) {
      float* sum = sums_of_slice(first) + i * kWidth;
      Vector found[kVectors];
      for (int v = 0; v < kVectors; ++v) found[v] = r == 0 ? Vector{} : load(sum + v * kLanes);
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
  const int32_t* positions_;
  uint16_t* codes_;
  float* sums_;
};

bool check(const lat_lsh_cumulation_args& args, lat_status& status) {
  ArgumentCheck check(status);
  check_sizes(check, args);
  check.attention_rows(args);
  check.elements("hash codes", kWave, 2, args.tokens, args.num_hash);
  check.pointer("projection", args.projection);
  return check.passed();
}

}  // namespace

void lsh_cumulation(const lat_lsh_cumulation_args& args, const lat_parallel& parallel, lat_status& status) {
  if (!check(args, status)) return;
  const Plan plan(args, parallel);
  const int64_t floats = plan.floats(), most_pieces = plan.wave * (larger_of(2 * plan.blocks, plan.slices));
  const Positions tokens(args.batch, args.tokens);
  const Buffer<uint16_t> codes(plan.wave * plan.codes_of_head());
  const Buffer<float> sums(plan.wave * plan.sums_of_head()), scratch(workers_for(parallel, most_pieces) * floats);
  if (!tokens || !codes || !sums || !scratch) return no_memory(status);
  tokens.find(args.attention_mask, is_token);
  zero_padded_rows(args.dtype, args.attention_mask, args.batch, args.tokens, args.width, args.output);
  for (int64_t first = 0; first < plan.heads; first += plan.wave) {
    const int64_t heads = smaller_of(plan.wave, plan.heads - first);
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
                   [&](int64_t piece, float* own) {
                     head(piece / plan.blocks).write_rows(piece % plan.blocks * kBlock, own);
                   });
  }
}

}  // namespace lat::LAT_ARCH

LAT_CPU_ENTRY(lsh_cumulation)
