// GlobalTokenAttention: both forms against the definition in double, on 1 and 4 threads, and with hostile sizes.
#include "global_token_attention/kernel.h"

#include <cstring>

#include "common/kernel_test.h"

namespace {

using lat::test::demand;
using Numbers = std::vector<float>;

struct Case {
  int64_t batch, tokens, heads, head_size;
  int kinds;
};

constexpr double kScale = 0.4;

struct Data {
  Numbers hidden, query, query_bias, key, value, value_bias;
  std::vector<int32_t> mask;
};

Data make(const Case& c) {
  const int64_t width = c.heads * c.head_size;
  Data data{lat::test::normal(c.batch * c.tokens * width, 1),
            lat::test::normal(width * width, 2),
            lat::test::normal(width, 3),
            lat::test::normal(width * width, 4),
            lat::test::normal(width * width, 5),
            lat::test::normal(width, 6),
            lat::test::random_mask(c.batch * c.tokens, c.kinds, 7)};
  for (Numbers* weight : {&data.query, &data.key, &data.value})
    for (float& number : *weight) number /= std::sqrt(static_cast<float>(width));
  return data;
}

Numbers computed(const Case& c, Data& data, int form, int threads) {
  const int64_t width = c.heads * c.head_size;
  Numbers out(data.hidden.size(), NAN);
  const lat_global_token_attention_args args{c.batch,
                                             c.tokens,
                                             width,
                                             c.heads,
                                             static_cast<float>(kScale),
                                             LAT_FLOAT32,
                                             form,
                                             {data.hidden.data(), c.tokens * width, width},
                                             {out.data(), c.tokens * width, width},
                                             data.mask.data(),
                                             data.query.data(),
                                             data.query_bias.data(),
                                             data.key.data(),
                                             data.value.data(),
                                             data.value_bias.data()};
  const lat_parallel parallel{lat::test::run_on_threads, &threads, threads};
  lat_status status;
  lat_global_token_attention_cpu(&args, &parallel, &status);
  demand(status.code == LAT_OK, "status", status.message);
  return out;
}

// Row `out` of a Linear over one token.
double linear(const float* x, const Numbers& weight, int64_t out, int64_t width) {
  double sum = 0;
  for (int64_t e = 0; e < width; ++e)
    sum += static_cast<double>(x[e]) * static_cast<double>(weight[static_cast<std::size_t>(out * width + e)]);
  return sum;
}

double expected(const Case& c, const Data& data, int64_t row, int64_t at) {
  const int64_t width = c.heads * c.head_size, head = at / c.head_size * c.head_size, batch = row / c.tokens * c.tokens;
  const float* query = data.hidden.data() + row * width;
  std::vector<double> score;
  double largest = -INFINITY, sum = 0, total = 0;
  for (int64_t j = batch; j < batch + c.tokens; ++j) {
    double s = 0;
    for (int64_t d = head; d < head + c.head_size; ++d)
      s += (linear(query, data.query, d, width) + static_cast<double>(data.query_bias[static_cast<std::size_t>(d)])) *
           linear(data.hidden.data() + j * width, data.key, d, width);
    score.push_back(data.mask[static_cast<std::size_t>(j)] ? s * kScale : -INFINITY);
    largest = std::fmax(largest, score.back());
  }
  for (int64_t j = 0; j < c.tokens; ++j) {
    const double p = std::exp(score[static_cast<std::size_t>(j)] - largest);
    sum += p;
    total += p * (linear(data.hidden.data() + (batch + j) * width, data.value, at, width) +
                  static_cast<double>(data.value_bias[static_cast<std::size_t>(at)]));
  }
  return total / sum;
}

void check(const Case& c) {
  Data data = make(c);
  const int64_t width = c.heads * c.head_size;
  for (const int form : {LAT_BY_COST, LAT_FROM_HIDDEN_STATES, LAT_FULL_PROJECTIONS}) {
    const Numbers first = computed(c, data, form, 1), second = computed(c, data, form, 4);
    demand(std::memcmp(first.data(), second.data(), first.size() * sizeof(float)) == 0, "same bits on 1 and 4 threads");
    for (int64_t row = 0; row < c.batch * c.tokens; ++row)
      for (int64_t at = 0; at < width; ++at) {
        const double got = static_cast<double>(first[static_cast<std::size_t>(row * width + at)]);
        if (data.mask[static_cast<std::size_t>(row)] != LAT_GLOBAL)
          demand(got == 0, "other rows are 0");
        else if (at % 3 == 0)
          demand(std::fabs(got - expected(c, data, row, at)) < 3e-5, "the value");
      }
  }
}

void refuse_hostile_sizes() {
  std::mt19937 random(5);
  Numbers data = lat::test::normal(64, 6);
  int threads = 1;
  const lat_parallel parallel{lat::test::run_on_threads, &threads, threads};
  // The mask is null: sizes that are sound are refused there, before anything is read.
  for (int round = 0; round < 20000; ++round) {
    const auto size = [&] { return lat::test::hostile_size(random); };
    const auto rows = [&] { return lat_rows{random() % 8 ? data.data() : nullptr, size(), size()}; };
    lat_global_token_attention_args args{};
    args.batch = size();
    args.tokens = size();
    args.width = size();
    args.num_heads = size();
    args.scale = 1;
    args.dtype = static_cast<int32_t>(random() % 4);
    args.form = static_cast<int32_t>(random() % 4);
    args.hidden_states = rows();
    args.output = rows();
    args.query_weight = args.query_bias = args.key_weight = args.value_weight = args.value_bias = data.data();
    lat_status status;
    std::memset(&status, 1, sizeof status);
    lat_global_token_attention_cpu(&args, &parallel, &status);
    demand(status.code == LAT_BAD_ARGUMENT && status.message[0] != 0 && std::memchr(status.message, 0, 252), "refused");
  }
}

}  // namespace

int main() {
  for (const int64_t tokens : {1, 2, 40, 150})
    for (const int kinds : {1, 3}) check({2, tokens, 3, tokens % 2 ? 5 : 16, kinds});
  refuse_hostile_sizes();
}
