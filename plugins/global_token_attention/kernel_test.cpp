// GlobalTokenAttention: both forms against the definition in double, on any threads, without memory, and called at
// random.
#include "global_token_attention/kernel.h"

#include "common/kernel_test.h"

namespace {

using lat::test::demand;
using lat::test::Tensor;
using Args = lat_global_token_attention_args;
using Numbers = std::vector<float>;

constexpr lat::test::Subject<Args> kSubject{
    lat_global_token_attention_cpu,
    [](Args& args) { return std::vector<lat_rows*>{&args.hidden_states}; },
    [](Args& args, lat::test::Arrays& arrays, std::mt19937& random) {
      args.scale = 0.01f;
      args.form = static_cast<int32_t>(random() % 3);
      for (const void** weight : {&args.query_weight, &args.key_weight, &args.value_weight})
        *weight = arrays.numbers(args.dtype, args.width * args.width, random);
      args.query_bias = arrays.numbers(args.dtype, args.width, random);
      args.value_bias = arrays.numbers(args.dtype, args.width, random);
    },
    [](Args&) { return std::vector<int64_t*>{}; },
    [](Args& args) { return std::vector<int32_t*>{&args.form}; },
    [](Args& args) {
      return std::vector<const void**>{&args.query_weight, &args.query_bias, &args.key_weight, &args.value_weight,
                                       &args.value_bias};
    },
    3};

struct Case {
  int64_t batch, tokens, heads, head_size;
  int kinds;
};

constexpr double kScale = 0.4;

struct Data {
  Tensor hidden;
  Numbers query, query_bias, key, value, value_bias;
  std::vector<int32_t> mask;
};

Data make(const Case& c) {
  const int64_t width = c.heads * c.head_size;
  const float size = 1 / std::sqrt(static_cast<float>(width));
  return {Tensor(c.batch, c.tokens, width, 1),
          lat::test::normal(width * width, 2, size),
          lat::test::normal(width, 3),
          lat::test::normal(width * width, 4, size),
          lat::test::normal(width * width, 5, size),
          lat::test::normal(width, 6),
          lat::test::random_mask(c.batch * c.tokens, c.kinds, 7)};
}

// Row `out` of a Linear over one token.
double linear(const float* x, const Numbers& weight, int64_t out, int64_t width) {
  double sum = 0;
  for (int64_t e = 0; e < width; ++e)
    sum += static_cast<double>(x[e]) * static_cast<double>(weight[static_cast<std::size_t>(out * width + e)]);
  return sum;
}

double expected(const Case& c, const Data& data, int64_t b, int64_t i, int64_t at) {
  const int64_t width = c.heads * c.head_size, head = at / c.head_size * c.head_size;
  const float* query = data.hidden.row(b, i);
  std::vector<double> score;
  double largest = -INFINITY, sum = 0, total = 0;
  for (int64_t j = 0; j < c.tokens; ++j) {
    double s = 0;
    for (int64_t d = head; d < head + c.head_size; ++d)
      s += (linear(query, data.query, d, width) + static_cast<double>(data.query_bias[static_cast<std::size_t>(d)])) *
           linear(data.hidden.row(b, j), data.key, d, width);
    score.push_back(data.mask[static_cast<std::size_t>(b * c.tokens + j)] ? s * kScale : -INFINITY);
    largest = std::fmax(largest, score.back());
  }
  for (int64_t j = 0; j < c.tokens; ++j) {
    const double p = std::exp(score[static_cast<std::size_t>(j)] - largest);
    sum += p;
    total += p * (linear(data.hidden.row(b, j), data.value, at, width) +
                  static_cast<double>(data.value_bias[static_cast<std::size_t>(at)]));
  }
  return total / sum;
}

void check(const Case& c) {
  Data data = make(c);
  const int64_t width = c.heads * c.head_size;
  Tensor out = data.hidden;
  for (const int form : {LAT_BY_COST, LAT_FROM_HIDDEN_STATES, LAT_FULL_PROJECTIONS}) {
    const Args args{c.batch,
                    c.tokens,
                    width,
                    c.heads,
                    static_cast<float>(kScale),
                    LAT_FLOAT32,
                    form,
                    data.hidden.rows(),
                    out.rows(),
                    data.mask.data(),
                    data.query.data(),
                    data.query_bias.data(),
                    data.key.data(),
                    data.value.data(),
                    data.value_bias.data()};
    lat::test::call_without_memory(kSubject.entry, args, out.data);
    lat::test::call_on_threads(kSubject.entry, args, out.data);
    for (int64_t row = 0; row < c.batch * c.tokens; ++row)
      for (int64_t at = 0; at < width; ++at) {
        const int64_t b = row / c.tokens, i = row % c.tokens;
        if (data.mask[static_cast<std::size_t>(row)] != LAT_GLOBAL)
          demand(out.at(b, i, at) == 0, "other rows are 0");
        else if (at % 3 == 0)
          demand(std::fabs(out.at(b, i, at) - expected(c, data, b, i, at)) < 3e-5, "the value");
      }
  }
}

}  // namespace

int main(int count, char** arguments) {
  for (const int64_t tokens : {1, 2, 40, 150})
    for (const int kinds : {1, 3}) check({2, tokens, 3, tokens % 2 ? 5 : 16, kinds});
  check({20, 30, 2, 8, 3});  // more rows of the batch than one wave
  lat::test::call_at_random(kSubject, lat::test::calls_of(count, arguments));
}
