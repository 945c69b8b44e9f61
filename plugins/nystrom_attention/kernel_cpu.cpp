// lat::NystromAttention on the CPU: every query, key and value is read twice, and no row of N scores is kept.
//
//   1. means:   one landmark of all heads: means of N / L queries and keys
//   2. kernel_2 = softmax(landmarks x landmarks^T) of one head, and its largest column sum
//   3. keys:    64 landmarks of one head, up to an eighth of the keys: kernel_3 x values, the attention of the query
//               landmarks over the keys
//   4. inverse: one head: the parts of 3 joined in their order, the pseudo-inverse, summary = inverse x kernel_3 x
//   values
//   5. output:  256 rows of one head: kernel_1 x summary, the attention of the queries over the key landmarks with the
//               summary for values, then the convolution of the values added to it
// The convolution is a matrix product too: its left matrix has the taps on a diagonal band, so element (i, p) is tap
// p - i, read with strides -1 and 1 from taps with zeros on both sides. Compiled once for each instruction set.
#include <initializer_list>

#include "common/buffer.h"
#include "common/parallel.h"
#include "nystrom_attention/arguments.h"
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
    clear(sum, padded_width);
    for (int64_t i = 0; i < plan.rows_per_landmark;) {
      clear(partial, padded_width);
      for (const int64_t end = smaller_of(i + kPartial, plan.rows_per_landmark); i < end; ++i) {
        rows.read(first + i, row, padded_width);
        for (int64_t e = 0; e < padded_width; e += kLanes) store(partial + e, load(partial + e) + load(row + e));
      }
      for (int64_t e = 0; e < padded_width; e += kLanes) store(sum + e, load(sum + e) + load(partial + e));
    }
    for (int64_t h = 0; h < args.num_heads; ++h) {
      const Landmarks to(plan, landmarks + (b * args.num_heads + h) * plan.landmark_floats());
      float* mean = (of_query ? to.of_query : to.of_key) + landmark * plan.padded;
      for (int64_t d = 0; d < size; ++d) mean[d] = sum[h * size + d] / static_cast<float>(plan.rows_per_landmark);
    }
  }
}

// Scores of one row, which are exponents of 2, to weights that sum to 1; zeros up to `padded`.
void softmax_row(float* row, int64_t count, int64_t padded) {
  for (int64_t i = count; i < padded; ++i) row[i] = kMasked;
  Vector most = load(row);
  for (int64_t i = kLanes; i < padded; i += kLanes) most = larger(most, load(row + i));
  const Vector largest = splat(largest_lane(most));
  Vector sum{};
  for (int64_t i = 0; i < padded; i += kLanes) {
    const Vector weight = exp2_of_nonpositive(load(row + i) - largest);
    store(row + i, weight);
    sum += weight;
  }
  const float inverse = 1.0f / sum_of_lanes(sum);
  for (int64_t i = 0; i < padded; i += kLanes) store(row + i, load(row + i) * inverse);
}

// Pass 2; returns the largest column sum.
float find_kernel_2(const Plan& plan, const Landmarks& at, float* panel) {
  const int64_t count = plan.landmarks, stride = plan.padded_landmarks;
  for (int64_t first = 0; first < count; first += kPanelRows) {
    const int64_t rows = smaller_of(kPanelRows, count - first);
    to_panel(at.of_key + first * plan.padded, plan.padded, rows, plan.head_size, plan.scale * kLog2E, panel);
    multiply<Sum::set>(count, round_up(rows, kLanes), plan.head_size, {at.of_query, plan.padded, 1},
                       {panel, kPanelRows}, {at.kernel_2 + first, stride});
  }
  for (int64_t l = 0; l < count; ++l) softmax_row(at.kernel_2 + l * stride, count, stride);
  Vector largest{};
  for (int64_t j = 0; j < stride; j += kLanes) {
    Vector sum{};
    for (int64_t l = 0; l < count; ++l) sum += load(at.kernel_2 + l * stride + j);
    largest = larger(largest, sum);
  }
  return largest_lane(largest);
}

bool all_padding(const int32_t* mask, int64_t tokens) {
  for (int64_t i = 0; i < tokens; ++i)
    if (mask[i] != LAT_PADDING) return false;
  return true;
}

// Pass 3. A padded key has no weight, unless there is nothing else: then all have the same, as scores of 0 give it.
void mix_values(const Plan& plan, int64_t head, int64_t panel, int64_t segment, const Landmarks& at, float* part,
                float* scratch) {
  const auto& args = plan.args;
  const int32_t* mask = args.attention_mask + head / args.num_heads * args.tokens;
  const bool nothing_else = all_padding(mask, args.tokens);
  const Rows key = plan.rows(args.key, head), value = plan.rows(args.value, head);
  RowAttention attention(scratch, plan.head_size);
  attention.start(at.of_query + panel * kPanelRows * plan.padded, plan.padded,
                  smaller_of(kPanelRows, plan.landmarks - panel * kPanelRows), nothing_else ? 0.0f : plan.scale);
  KeyChunk keys(attention, plan.head_size, kChunk, scratch + plan.attention_floats());
  const int64_t end = smaller_of((segment + 1) * plan.segment_keys, args.tokens);
  for (int64_t token = segment * plan.segment_keys; token < end; ++token) {
    if (token + Rows::kRowsAhead < end) {
      key.prefetch(token + Rows::kRowsAhead);
      value.prefetch(token + Rows::kRowsAhead);
    }
    if (mask[token] == LAT_PADDING && !nothing_else) continue;
    key.read(token, keys.key());
    value.read(token, keys.value());
    keys.added();
  }
  keys.flush();
  attention.save(part);
}

// factor * identity - matrix, in place.
void subtract_from_identity(int64_t count, int64_t stride, float factor, float* matrix) {
  for (int64_t l = 0; l < count; ++l) {
    for (int64_t j = 0; j < stride; j += kLanes) store(matrix + l * stride + j, -load(matrix + l * stride + j));
    matrix[l * stride + l] += factor;
  }
}

// Pass 4: the iteration of the paper (equation 11), then the summary.
void invert(const Plan& plan, const Landmarks& at, float largest, const float* parts, float* scratch) {
  const int64_t count = plan.landmarks, stride = plan.padded_landmarks, floats = count * stride;
  float *inverse = scratch, *product = inverse + floats, *inner = product + floats, *next = inner + floats,
        *context = next + floats;
  __builtin_memset(inverse, 0, static_cast<size_t>(floats) * sizeof(float));
  for (int64_t l = 0; l < count; ++l) {
    for (int64_t j = 0; j < count; ++j) inverse[j * stride + l] = at.kernel_2[l * stride + j] / largest;
  }
  const auto times = [&](const float* left, const float* right, float* result) {
    multiply<Sum::set>(count, stride, count, {left, stride, 1}, {right, stride}, {result, stride});
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
  for (int64_t panel = 0; panel < plan.panels; ++panel) {
    const int64_t first = panel * kPanelRows;
    join_parts(parts + panel * plan.segments * RowAttention::part_floats(plan.head_size), plan.segments, plan.head_size,
               smaller_of(kPanelRows, count - first), 0, plan.head_size, context + first * plan.padded, plan.padded);
  }
  multiply<Sum::set>(count, plan.padded, count, {inverse, stride, 1}, {context, plan.padded},
                     {at.summary, plan.padded});
}

// Pass 5, for up to kBlock rows from `start` on.
class Output {
 public:
  Output(const Plan& plan, int64_t head, const Landmarks& at, float* scratch)
      : plan_(plan),
        args_(plan.args),
        at_(at),
        query_(plan.rows(args_.query, head)),
        output_(plan.rows(args_.output, head)),
        attention_(scratch, plan.head_size),
        rows_(scratch + plan.attention_floats()),
        convolution_(args_, head % args_.num_heads, plan.rows(args_.value, head), plan.padded,
                     rows_ + kPanelRows * plan.padded) {}

  void write(int64_t start) {
    const int64_t end = smaller_of(start + kBlock, args_.tokens);
    convolution_.load(start, end);
    for (int64_t first = start; first < end; first += kPanelRows) {
      const int64_t count = smaller_of(kPanelRows, end - first);
      attend(first, count);
      convolution_.add(first - start, count, rows_);
      for (int64_t i = 0; i < count; ++i) output_.write(first + i, rows_ + i * plan_.padded);
    }
  }

 private:
  // Also sets the numbers beyond D of every row, which the convolution adds to.
  void attend(int64_t first, int64_t count) {
    const int64_t padded = plan_.padded;
    query_.read(first, count, rows_, padded);
    attention_.start(rows_, padded, count, plan_.scale);
    for (int64_t l = 0; l < plan_.landmarks; l += kChunk) {
      attention_.score(at_.of_key + l * padded, padded, smaller_of(kChunk, plan_.landmarks - l));
      attention_.add_values(at_.summary + l * padded, padded);
    }
    attention_.finish(rows_, padded, count);
  }

  const Plan& plan_;
  const lat_nystrom_attention_args& args_;
  const Landmarks& at_;
  Rows query_, output_;
  RowAttention attention_;
  float* rows_;
  ValueConvolution convolution_;
};

bool check(const lat_nystrom_attention_args& args, lat_status& status) {
  ArgumentCheck check(status);
  check_sizes(check, args);
  check.attention_rows(args);
  return check.passed();
}

}  // namespace

void nystrom_attention(const lat_nystrom_attention_args& args, const lat_parallel& parallel, lat_status& status) {
  if (!check(args, status)) return;
  const Plan plan(args);
  const int64_t floats = plan.scratch_floats(), key_tasks = plan.heads * plan.panels * plan.segments;
  const int64_t most_tasks = larger_of(larger_of(args.batch * plan.landmarks, key_tasks), plan.heads * plan.blocks);
  const Buffer<float> landmarks(plan.heads * plan.landmark_floats()), largest(plan.heads);
  const Buffer<float> parts(plan.heads * plan.part_floats()), scratch(workers_for(parallel, most_tasks) * floats);
  if (!landmarks || !largest || !parts || !scratch) return no_memory(status);
  // Rows are padded to whole vectors: zeros there, and nothing more is said about them.
  clear(landmarks.data(), plan.heads * plan.landmark_floats());
  const auto of_head = [&](int64_t head) { return Landmarks(plan, landmarks.data() + head * plan.landmark_floats()); };

  for_each_piece(parallel, args.batch * plan.landmarks, scratch.data(), floats, [&](int64_t task, float* own) {
    find_means(plan, task / plan.landmarks, task % plan.landmarks, landmarks.data(), own);
  });
  for_each_piece(parallel, plan.heads, scratch.data(), floats,
                 [&](int64_t head, float* own) { largest.data()[head] = find_kernel_2(plan, of_head(head), own); });
  for_each_piece(parallel, key_tasks, scratch.data(), floats, [&](int64_t task, float* own) {
    const int64_t head = task / plan.segments / plan.panels;
    mix_values(plan, head, task / plan.segments % plan.panels, task % plan.segments, of_head(head),
               parts.data() + task * RowAttention::part_floats(plan.head_size), own);
  });
  float of_batch = largest.data()[0];
  for (int64_t head = 1; head < plan.heads; ++head)
    if (largest.data()[head] > of_batch) of_batch = largest.data()[head];
  for_each_piece(parallel, plan.heads, scratch.data(), floats, [&](int64_t head, float* own) {
    invert(plan, of_head(head), args.per_head_init ? largest.data()[head] : of_batch,
           parts.data() + head * plan.part_floats(), own);
  });
  for_each_piece(parallel, plan.heads * plan.blocks, scratch.data(), floats, [&](int64_t task, float* own) {
    const int64_t head = task / plan.blocks;
    const Landmarks at = of_head(head);
    Output(plan, head, at, own).write(task % plan.blocks * kBlock);
  });
}

}  // namespace lat::LAT_ARCH

LAT_CPU_ENTRY(nystrom_attention)
