// BernoulliExpectation against its definition in double, on any threads, without memory, and called at random.
#include "bernoulli_expectation/kernel.h"

#include "common/kernel_test.h"

namespace {

using lat::test::demand;
using lat::test::Tensor;
using Args = lat_bernoulli_expectation_args;

constexpr lat::test::Subject<Args> kSubject{lat_bernoulli_expectation_cpu,
                                            [](Args& args) {
                                              return std::vector<lat_rows*>{&args.query, &args.key, &args.value};
                                            },
                                            [](Args& args, lat::test::Arrays&, std::mt19937& random) {
                                              args.hash_code_len =
                                                  random() % 8 ? lat::test::between(random, 1, 20) : INT32_MAX;
                                            },
                                            [](Args& args) { return std::vector<int64_t*>{&args.hash_code_len}; },
                                            [](Args&) { return std::vector<int32_t*>{}; },
                                            [](Args&) { return std::vector<const void**>{}; },
                                            2};

struct Case {
  int64_t batch, tokens, heads, head_size, bits;
  int kinds;
};

double norm(const float* row, int64_t size) {
  double squares = 0;
  for (int64_t d = 0; d < size; ++d) squares += static_cast<double>(row[d]) * static_cast<double>(row[d]);
  return std::fmax(std::sqrt(squares), 1e-12);
}

// The weight of a key for a query.
double weight(const Case& c, const float* query, const float* key) {
  double cosine = 0;
  for (int64_t d = 0; d < c.head_size; ++d) cosine += static_cast<double>(query[d]) * static_cast<double>(key[d]);
  cosine /= norm(query, c.head_size) * norm(key, c.head_size);
  return std::pow(1 - std::acos(std::fmax(-1, std::fmin(1, cosine))) / std::acos(-1.0), static_cast<double>(c.bits));
}

void check(const Case& c) {
  const int64_t width = c.heads * c.head_size;
  Tensor q(c.batch, c.tokens, width, 1), k(c.batch, c.tokens, width, 2), v(c.batch, c.tokens, width, 3), out = v;
  const std::vector<int32_t> mask = lat::test::random_mask(c.batch * c.tokens, c.kinds, 4);
  const Args args{c.batch,  c.tokens, width,    c.heads,    c.bits,     LAT_FLOAT32,
                  q.rows(), k.rows(), v.rows(), out.rows(), mask.data()};
  lat::test::call_without_memory(kSubject.entry, args, out.data);
  lat::test::call_on_threads(kSubject.entry, args, out.data);
  std::vector<double> sum(static_cast<std::size_t>(c.head_size));
  for (int64_t b = 0; b < c.batch; ++b)
    for (int64_t first = 0; first < width; first += c.head_size)
      for (int64_t i = 0; i < c.tokens; ++i) {
        std::fill(sum.begin(), sum.end(), 0.0);
        double squares = 0;
        for (int64_t j = 0; j < c.tokens; ++j) {
          if (mask[static_cast<std::size_t>(b * c.tokens + j)] == LAT_PADDING) continue;
          const double w = weight(c, q.row(b, i) + first, k.row(b, j) + first);
          for (int64_t d = 0; d < c.head_size; ++d) sum[static_cast<std::size_t>(d)] += w * v.at(b, j, first + d);
        }
        for (const double number : sum) squares += number * number;
        const bool padded = mask[static_cast<std::size_t>(b * c.tokens + i)] == LAT_PADDING;
        for (int64_t d = 0; d < c.head_size; ++d) {
          const double value = sum[static_cast<std::size_t>(d)] / std::fmax(std::sqrt(squares), 1e-12);
          demand(std::fabs(out.at(b, i, first + d) - (padded ? 0 : value)) < 1e-4, "the value");
        }
      }
}

}  // namespace

int main(int count, char** arguments) {
  for (const int64_t tokens : {1, 2, 65, 97, 300})
    for (const int kinds : {1, 2})
      for (const int64_t bits : {1, 9}) check({2, tokens, 2, tokens % 2 ? 5 : 20, bits, kinds});
  lat::test::call_at_random(kSubject, lat::test::calls_of(count, arguments));
}
