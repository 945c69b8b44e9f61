// FullAttention against its definition in double, on any threads, without memory, and called at random.
#include "full_attention/kernel.h"

#include "common/kernel_test.h"

namespace {

using lat::test::demand;
using lat::test::Tensor;
using Args = lat_full_attention_args;

constexpr lat::test::Subject<Args> kSubject{lat_full_attention_cpu,
                                            [](Args& args) {
                                              return std::vector<lat_rows*>{&args.query, &args.key, &args.value};
                                            },
                                            [](Args& args, lat::test::Arrays& arrays, std::mt19937& random) {
                                              args.taps = 2 * lat::test::between(random, 0, 40) + 1;
                                              if (random() % 4)
                                                args.conv_weight =
                                                    arrays.numbers(args.dtype, args.num_heads * args.taps, random);
                                            },
                                            [](Args& args) { return std::vector<int64_t*>{&args.taps}; },
                                            [](Args&) { return std::vector<int32_t*>{}; },
                                            [](Args&) { return std::vector<const void**>{}; },
                                            2};

struct Case {
  int64_t batch, tokens, heads, head_size, taps;
  int kinds;
};

// Weights of all keys for one row of one head, which sum to 1.
std::vector<double> weights(const Case& c, const Tensor& q, const Tensor& k, const int32_t* seen, int64_t b, int64_t h,
                            int64_t row) {
  bool any = false;
  for (int64_t j = 0; j < c.tokens; ++j) any |= seen[j] != LAT_PADDING;
  std::vector<double> found(static_cast<std::size_t>(c.tokens));
  double largest = -INFINITY, sum = 0;
  for (int64_t j = 0; j < c.tokens; ++j) {
    double score = 0;
    for (int64_t d = h * c.head_size; d < (h + 1) * c.head_size; ++d) score += q.at(b, row, d) * k.at(b, j, d);
    score = any ? score / std::sqrt(static_cast<double>(c.head_size)) : 0;
    if (any && seen[j] == LAT_PADDING) score = -INFINITY;
    found[static_cast<std::size_t>(j)] = score;
    largest = std::fmax(largest, score);
  }
  for (double& number : found) sum += number = std::exp(number - largest);
  for (double& number : found) number /= sum;
  return found;
}

void check(const Case& c) {
  const int64_t width = c.heads * c.head_size;
  Tensor q(c.batch, c.tokens, width, 1, 2), k(c.batch, c.tokens, width, 2), v(c.batch, c.tokens, width, 3), out = v;
  const std::vector<float> taps = lat::test::normal(c.heads * c.taps, 8, 0.3f);
  std::vector<int32_t> mask = lat::test::random_mask(c.batch * c.tokens, c.kinds, 4);
  for (int64_t i = 0; i < c.tokens; ++i) mask[static_cast<std::size_t>((c.batch - 1) * c.tokens + i)] = LAT_PADDING;
  const Args args{c.batch,  c.tokens, width,    c.heads,    c.taps,      LAT_FLOAT32,
                  q.rows(), k.rows(), v.rows(), out.rows(), mask.data(), taps.data()};
  lat::test::call_without_memory(kSubject.entry, args, out.data);
  lat::test::call_on_threads(kSubject.entry, args, out.data);
  for (int64_t b = 0; b < c.batch; ++b)
    for (int64_t h = 0; h < c.heads; ++h)
      for (int64_t i = 0; i < c.tokens; ++i) {
        const std::vector<double> of_row = weights(c, q, k, mask.data() + b * c.tokens, b, h, i);
        for (int64_t d = h * c.head_size; d < (h + 1) * c.head_size; ++d) {
          double sum = 0;
          for (int64_t j = 0; j < c.tokens; ++j) sum += of_row[static_cast<std::size_t>(j)] * v.at(b, j, d);
          for (int64_t tap = 0; tap < c.taps; ++tap) {
            const int64_t from = i + tap - c.taps / 2;
            if (from >= 0 && from < c.tokens)
              sum += static_cast<double>(taps[static_cast<std::size_t>(h * c.taps + tap)]) * v.at(b, from, d);
          }
          demand(std::fabs(out.at(b, i, d) - sum) < 2e-5, "the value");
        }
      }
}

}  // namespace

int main(int count, char** arguments) {
  for (const int kinds : {1, 2}) {
    check({2, 1, 1, 5, 1, kinds});
    check({3, 24, 3, 5, 5, kinds});
    check({2, 130, 2, 16, 33, kinds});
    check({2, 600, 1, 8, 3, kinds});  // several blocks of rows and chunks of keys
  }
  lat::test::call_at_random(kSubject, lat::test::calls_of(count, arguments));
}
