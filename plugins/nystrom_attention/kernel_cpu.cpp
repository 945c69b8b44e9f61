// lat::NystromAttention on the CPU: every query, key and value is read twice, and no row of N scores is kept.
//
//   1. means:   one landmark of all heads: means of N / L queries and keys
//   2. kernel_2 = softmax(landmarks x landmarks^T) of one head, and its largest column sum
//   3. keys:    one head, up to an eighth of the keys: online softmax of kernel_3 = softmax(query landmarks x keys^T)
//               in tiles of 64 keys, summing kernel_3 x values
//   4. inverse: one head: the parts of 3 joined in their order, the pseudo-inverse, summary = inverse x kernel_3 x
//   values
//   5. output:  256 rows of one head: kernel_1 x summary, then the convolution of the values added to it
// The convolution is a matrix product too: its left matrix has the taps on a diagonal band, so element (i, p) is tap
// p - i, read with strides -1 and 1 from taps with zeros on both sides. Compiled once for each instruction set.
#include <initializer_list>

#include "common/arguments.h"
#include "common/block_parallel.h"
#include "common/block_softmax.h"
#include "nystrom_attention/plan.h"

namespace lat::LAT_ARCH {
namespace {

constexpr int kIterations = 6;    // PINV_ITERATIONS of the contract
constexpr int64_t kPartial = 32;  // rows that are added up before their sum joins a longer one, which rounds less

// Pass 1.
void find_means(const Plan& plan, int64_t b, int64_t landmark, float* landmarks, float* scratch) {
  const auto& args = plan.args;
  const int64_t padded_width = round_up(plan.width, kLanes), size = plan.head_size;
  float *sum = scratch, *partial = sum + padded_width, *row = partial + padded_width;
  const int64_t first = landmark * plan.rows_per_landmark;
  for (const bool of_query : {true, false}) {
    const Rows rows(args.dtype, of_query ? args.query : args.key, b, 0, plan.width);
    __builtin_memset(sum, 0, static_cast<size_t>(padded_width) * sizeof(float));
    for (int64_t i = 0; i < plan.rows_per_landmark;) {
      __builtin_memset(partial, 0, static_cast<size_t>(padded_width) * sizeof(float));
      for (const int64_t end = smaller(i + kPartial, plan.rows_per_landmark); i < end; ++i) {
        rows.read(first + i, row, padded_width);
        for (int64_t e = 0; e < padded_width; e += kLanes) store(partial + e, load(partial + e) + load(row + e));
      }
      for (int64_t e = 0; e < padded_width; e += kLanes) store(sum + e, load(sum + e) + load(partial + e));
    }
    for (int64_t h = 0; h < args.num_heads; ++h) {
      const Landmarks to(plan, landmarks + (b * args.num_heads + h) * plan.landmark_floats());
      for (int64_t d = 0; d < size; ++d) {
        const float mean = sum[h * size + d] / static_cast<float>(plan.rows_per_landmark);
        (of_query ? to.query_columns : to.key_columns)[d * plan.padded_landmarks + landmark] = mean * plan.scale;
        if (of_query) to.of_query[landmark * plan.padded + d] = mean;
      }
    }
  }
}

// Pass 2; returns the largest column sum.
float find_kernel_2(const Plan& plan, const Landmarks& at) {
  const int64_t count = plan.landmarks, stride = plan.padded_landmarks;
  multiply<Start::kZero>(count, stride, plan.head_size, {at.of_query, plan.padded, 1}, {at.key_columns, stride},
                         {at.kernel_2, stride});
  for (int64_t l = 0; l < count; ++l) {
    float* row = at.kernel_2 + l * stride;
    scale_row(row, stride, 1.0f / exponentials_of_row(row, count));
  }
  Vec largest{};
  for (int64_t j = 0; j < stride; j += kLanes) {
    Vec sum{};
    for (int64_t l = 0; l < count; ++l) sum += load(at.kernel_2 + l * stride + j);
    largest = maximum(largest, sum);
  }
  return largest_lane(largest);
}

// Sums of one segment of the keys of a head, or of several joined.
struct Sums {
  Sums(const Plan& plan, float* from)
      : context(from), largest(context + plan.landmarks * plan.padded), total(largest + plan.padded_landmarks) {}
  float *context, *largest, *total;
};

// Pass 3.
void add_keys(const Plan& plan, int64_t head, int64_t segment, const Landmarks& at, const Sums& sums, float* scratch) {
  const auto& args = plan.args;
  const int64_t stride = plan.padded_landmarks, padded = plan.padded;
  float *keys = scratch, *values = keys + kTile * padded, *scores = values + kTile * padded,
        *shrink = scores + kTile * stride;
  const int64_t b = head / args.num_heads;
  const Rows all_keys = plan.rows(args.key, head), all_values = plan.rows(args.value, head);
  __builtin_memset(sums.context, 0, static_cast<size_t>(plan.segment_floats()) * sizeof(float));
  for (int64_t l = 0; l < stride; ++l) sums.largest[l] = -__builtin_inff();
  const int64_t end = smaller((segment + 1) * plan.segment_keys, args.tokens);
  for (int64_t start = segment * plan.segment_keys; start < end; start += kTile) {
    const int64_t count = smaller(kTile, end - start);
    all_keys.read(start, count, keys, padded);
    all_values.read(start, count, values, padded);
    multiply<Start::kZero>(count, stride, plan.head_size, {keys, padded, 1}, {at.query_columns, stride},
                           {scores, stride});
    for (int64_t j = 0; j < count; ++j) {
      if (args.attention_mask[b * args.tokens + start + j] != LAT_PADDING) continue;
      for (int64_t l = 0; l < stride; l += kLanes) store(scores + j * stride + l, splat(kMaskedScore));
    }
    for (int64_t l = 0; l < stride; l += kLanes) {
      const Vec before = load(sums.largest + l);
      Vec largest = before;
      for (int64_t j = 0; j < count; ++j) largest = maximum(largest, load(scores + j * stride + l));
      const Vec factor = exp_of_nonpositive(before - largest);
      Vec total = load(sums.total + l) * factor;
      for (int64_t j = 0; j < count; ++j) {
        const Vec weight = exp_of_nonpositive(load(scores + j * stride + l) - largest);
        store(scores + j * stride + l, weight);
        total += weight;
      }
      store(sums.largest + l, largest);
      store(sums.total + l, total);
      store(shrink + l, factor);
    }
    for (int64_t l = 0; l < plan.landmarks; ++l) {
      if (shrink[l] != 1.0f) scale_row(sums.context + l * padded, padded, shrink[l]);
    }
    multiply<Start::kResult>(plan.landmarks, padded, count, {scores, 1, stride}, {values, padded},
                             {sums.context, padded});
  }
}

// Joins the segments of a head into `context` (L, D) = kernel_3 x values.
void join_segments(const Plan& plan, float* segments, float* context) {
  const auto part = [&](int64_t s) { return Sums(plan, segments + s * plan.segment_floats()); };
  for (int64_t l = 0; l < plan.landmarks; ++l) {
    float* row = context + l * plan.padded;
    Vec largest = splat(part(0).largest[l]), total{};
    for (int64_t s = 1; s < plan.segments; ++s) largest = maximum(largest, splat(part(s).largest[l]));
    __builtin_memset(row, 0, static_cast<size_t>(plan.padded) * sizeof(float));
    for (int64_t s = 0; s < plan.segments; ++s) {
      const Sums from = part(s);
      const Vec factor = exp_of_nonpositive(splat(from.largest[l]) - largest);
      total += factor * from.total[l];
      for (int64_t d = 0; d < plan.padded; d += kLanes) {
        store(row + d, load(row + d) + factor * load(from.context + l * plan.padded + d));
      }
    }
    for (int64_t d = 0; d < plan.padded; d += kLanes) store(row + d, load(row + d) / total);
  }
}

// factor * identity - matrix, in place.
void subtract_from_identity(int64_t count, int64_t stride, float factor, float* matrix) {
  for (int64_t l = 0; l < count; ++l) {
    for (int64_t j = 0; j < stride; j += kLanes) store(matrix + l * stride + j, -load(matrix + l * stride + j));
    matrix[l * stride + l] += factor;
  }
}

// Pass 4: the iteration of the paper (equation 11), then the summary.
void invert(const Plan& plan, const Landmarks& at, float largest, float* segments, float* scratch) {
  const int64_t count = plan.landmarks, stride = plan.padded_landmarks, floats = count * stride;
  float *inverse = scratch, *product = inverse + floats, *inner = product + floats, *next = inner + floats,
        *context = next + floats;
  __builtin_memset(inverse, 0, static_cast<size_t>(floats) * sizeof(float));
  for (int64_t l = 0; l < count; ++l) {
    for (int64_t j = 0; j < count; ++j) inverse[j * stride + l] = at.kernel_2[l * stride + j] / largest;
  }
  const auto times = [&](const float* left, const float* right, float* result) {
    multiply<Start::kZero>(count, stride, count, {left, stride, 1}, {right, stride}, {result, stride});
  };
  for (int i = 0; i < kIterations; ++i) {
    times(at.kernel_2, inverse, product);
    __builtin_memcpy(inner, product, static_cast<size_t>(floats) * sizeof(float));
    subtract_from_identity(count, stride, 7.0f, inner);
    times(product, inner, next);
    subtract_from_identity(count, stride, 15.0f, next);
    times(product, next, inner);
    subtract_from_identity(count, stride, 13.0f, inner);
    times(inverse, inner, next);
    for (int64_t j = 0; j < floats; j += kLanes) store(inverse + j, load(next + j) * 0.25f);
  }
  join_segments(plan, segments, context);
  multiply<Start::kZero>(count, plan.padded, count, {inverse, stride, 1}, {context, plan.padded},
                         {at.summary, plan.padded});
}

// Pass 5, for up to kBlock rows from `start` on.
class Output {
 public:
  Output(const Plan& plan, int64_t head, const Landmarks& at, float* scratch)
      : plan_(plan),
        args_(plan.args),
        at_(at),
        h_(head % args_.num_heads),
        query_(plan.rows(args_.query, head)),
        value_(plan.rows(args_.value, head)),
        output_(plan.rows(args_.output, head)),
        queries_(scratch),
        scores_(queries_ + kTile * plan.padded),
        context_(scores_ + kTile * plan.padded_landmarks),
        taps_(context_ + kTile * plan.padded),
        values_(taps_ + plan.padded_taps()) {}

  void write(int64_t start) const {
    const int64_t end = smaller(start + kBlock, args_.tokens);
    if (args_.conv_weight != nullptr) load_convolution(start, end);
    for (int64_t tile = start; tile < end; tile += kTile) {
      const int64_t count = smaller(kTile, end - tile);
      attend(tile, count);
      if (args_.conv_weight != nullptr) convolve(tile - start, count);
      for (int64_t i = 0; i < count; ++i) output_.write(tile + i, context_ + i * plan_.padded);
    }
  }

 private:
  void attend(int64_t tile, int64_t count) const {
    const int64_t stride = plan_.padded_landmarks, padded = plan_.padded;
    query_.read(tile, count, queries_, plan_.padded);
    multiply<Start::kZero>(count, stride, plan_.head_size, {queries_, padded, 1}, {at_.key_columns, stride},
                           {scores_, stride});
    float totals[kTile];
    for (int64_t i = 0; i < count; ++i) totals[i] = exponentials_of_row(scores_ + i * stride, plan_.landmarks);
    multiply<Start::kZero>(count, padded, plan_.landmarks, {scores_, stride, 1}, {at_.summary, padded},
                           {context_, padded});
    for (int64_t i = 0; i < count; ++i) scale_row(context_ + i * padded, padded, 1.0f / totals[i]);
  }

  // Taps of the head between zeros; values from half_taps rows before `start` on, zeros beyond both ends.
  void load_convolution(int64_t start, int64_t end) const {
    const int64_t half = plan_.half_taps, taps = 2 * half + 1;
    __builtin_memset(taps_, 0, static_cast<size_t>(plan_.padded_taps()) * sizeof(float));
    load_row(static_cast<lat_dtype>(args_.dtype), args_.conv_weight, h_ * args_.taps + args_.taps / 2 - half, taps,
             taps_ + kBlockRows - 1, taps);
    const int64_t before = half > start ? half - start : 0,
                  after = end + half > args_.tokens ? end + half - args_.tokens : 0;
    const int64_t rows = end - start + 2 * half - before - after,
                  row_bytes = plan_.padded * static_cast<int64_t>(sizeof(float));
    __builtin_memset(values_, 0, static_cast<size_t>(before * row_bytes));
    value_.read(start - half + before, rows, values_ + before * plan_.padded, plan_.padded);
    __builtin_memset(values_ + (before + rows) * plan_.padded, 0, static_cast<size_t>(after * row_bytes));
  }

  void convolve(int64_t from, int64_t count) const {
    const int64_t taps = 2 * plan_.half_taps + 1, padded = plan_.padded;
    for (int64_t i = 0; i < count; i += kBlockRows) {
      const int64_t rows = smaller(kBlockRows, count - i);
      multiply<Start::kResult>(rows, padded, taps + rows - 1, {taps_ + kBlockRows - 1, -1, 1},
                               {values_ + (from + i) * padded, padded}, {context_ + i * padded, padded});
    }
  }

  const Plan& plan_;
  const lat_nystrom_attention_args& args_;
  const Landmarks& at_;
  int64_t h_;
  Rows query_, value_, output_;
  float *queries_, *scores_, *context_, *taps_, *values_;
};

bool check(const lat_nystrom_attention_args& args, lat_status& status) {
  ArgumentCheck check(status);
  check.attention(args);
  check.size("num_landmarks", args.num_landmarks);
  check.range("per_head_init", args.per_head_init, 0, 1);
  if (check.passed() && args.tokens % args.num_landmarks != 0)
    fail(status, LAT_BAD_ARGUMENT, "num_landmarks: got N=%lld, L=%lld, expected N %% L == 0",
         static_cast<long long>(args.tokens), static_cast<long long>(args.num_landmarks));
  if (args.conv_weight != nullptr) {
    check.size("taps", args.taps);
    if (check.passed() && args.taps % 2 == 0)
      fail(status, LAT_BAD_ARGUMENT, "taps: got K=%lld, expected an odd number, which keeps the length",
           static_cast<long long>(args.taps));
    check.elements("conv_weight", args.num_heads, args.taps);
  }
  check.elements("landmark matrices", args.batch, args.num_heads, args.num_landmarks, args.num_landmarks);
  return check.passed();
}

}  // namespace

void nystrom_attention(const lat_nystrom_attention_args& args, const lat_parallel& parallel, lat_status& status) {
  if (!check(args, status)) return;
  const Plan plan(args);
  const int64_t floats = plan.scratch_floats();
  int64_t most_pieces = args.batch * plan.landmarks;
  for (const int64_t pieces : {plan.heads * plan.segments, plan.heads * plan.blocks}) {
    if (pieces > most_pieces) most_pieces = pieces;
  }
  const Buffer<float> landmarks(plan.heads * plan.landmark_floats()), largest(plan.heads);
  const Buffer<float> segments(plan.heads * plan.segments * plan.segment_floats());
  const Buffer<float> scratch(workers_for(parallel, most_pieces) * floats);
  if (!landmarks || !largest || !segments || !scratch) return fail(status, LAT_NO_MEMORY, "no memory for scratch");
  // Columns and rows are padded to whole vectors: zeros there, and nothing more is said about them.
  __builtin_memset(landmarks.data(), 0, static_cast<size_t>(plan.heads * plan.landmark_floats()) * sizeof(float));
  const auto of_head = [&](int64_t head) { return Landmarks(plan, landmarks.data() + head * plan.landmark_floats()); };
  const auto segments_of = [&](int64_t head) { return segments.data() + head * plan.segments * plan.segment_floats(); };

  for_each_piece(parallel, args.batch * plan.landmarks, scratch.data(), floats, [&](int64_t piece, float* own) {
    find_means(plan, piece / plan.landmarks, piece % plan.landmarks, landmarks.data(), own);
  });
  for_each_piece(parallel, plan.heads, scratch.data(), floats,
                 [&](int64_t head, float*) { largest.data()[head] = find_kernel_2(plan, of_head(head)); });
  for_each_piece(parallel, plan.heads * plan.segments, scratch.data(), floats, [&](int64_t piece, float* own) {
    const int64_t head = piece / plan.segments, segment = piece % plan.segments;
    add_keys(plan, head, segment, of_head(head), Sums(plan, segments_of(head) + segment * plan.segment_floats()), own);
  });
  float of_batch = largest.data()[0];
  for (int64_t head = 1; head < plan.heads; ++head) {
    if (largest.data()[head] > of_batch) of_batch = largest.data()[head];
  }
  for_each_piece(parallel, plan.heads, scratch.data(), floats, [&](int64_t head, float* own) {
    invert(plan, of_head(head), args.per_head_init ? largest.data()[head] : of_batch, segments_of(head), own);
  });
  for_each_piece(parallel, plan.heads * plan.blocks, scratch.data(), floats, [&](int64_t piece, float* own) {
    const int64_t head = piece / plan.blocks;
    const Landmarks at = of_head(head);
    Output(plan, head, at, own).write(piece % plan.blocks * kBlock);
  });
}

}  // namespace lat::LAT_ARCH

LAT_CPU_ENTRY(nystrom_attention)
