// BandedWindowAttention against its definition in double, on any threads, without memory, and called at random.
#include "banded_window_attention/kernel.h"

#include "common/kernel_test.h"

namespace {

using lat::test::demand;
using lat::test::Tensor;
using Args = lat_banded_window_attention_args;

constexpr lat::test::Subject<Args> kSubject{lat_banded_window_attention_cpu,
                                            [](Args& args) {
                                              return std::vector<lat_rows*>{&args.query, &args.key, &args.value};
                                            },
                                            [](Args& args, lat::test::Arrays&, std::mt19937& random) {
                                              args.window =
                                                  random() % 8 ? lat::test::between(random, 1, 70) : INT32_MAX;
                                              args.scale = 0.25f;
                                              args.allow_tf32 = static_cast<int32_t>(random() % 2);
                                            },
                                            [](Args& args) { return std::vector<int64_t*>{&args.window}; },
                                            [](Args& args) { return std::vector<int32_t*>{&args.allow_tf32}; },
                                            [](Args&) { return std::vector<const void**>{}; },
                                            3};

struct Case {
  int64_t batch, tokens, heads, head_size, window;
  int kinds;
};

double expected(const Case& c, const Tensor& q, const Tensor& k, const Tensor& v, const int32_t* mask, int64_t b,
                int64_t i, int64_t at) {
  const int64_t head = at / c.head_size * c.head_size;
  std::vector<double> score(static_cast<std::size_t>(c.tokens), -INFINITY);
  double largest = -INFINITY, sum = 0, total = 0;
  for (int64_t j = 0; j < c.tokens; ++j) {
    const int32_t kind = mask[b * c.tokens + j];
    if (kind != LAT_GLOBAL && (kind != LAT_TOKEN || std::llabs(i - j) > c.window)) continue;
    double s = 0;
    for (int64_t d = head; d < head + c.head_size; ++d) s += q.at(b, i, d) * k.at(b, j, d);
    score[static_cast<std::size_t>(j)] = s * 0.3;
    largest = std::fmax(largest, s * 0.3);
  }
  for (int64_t j = 0; j < c.tokens; ++j) {
    const double p = std::exp(score[static_cast<std::size_t>(j)] - largest);
    sum += p;
    total += p * v.at(b, j, at);
  }
  return total / sum;
}

void check(const Case& c) {
  const int64_t width = c.heads * c.head_size;
  Tensor q(c.batch, c.tokens, width, 1), k(c.batch, c.tokens, width, 2), v(c.batch, c.tokens, width, 3), out = v;
  const std::vector<int32_t> mask = lat::test::random_mask(c.batch * c.tokens, c.kinds, 4);
  const Args args{c.batch, c.tokens, width,    c.heads,  c.window,   0.3f,       LAT_FLOAT32,
                  0,       q.rows(), k.rows(), v.rows(), out.rows(), mask.data()};
  lat::test::call_without_memory(kSubject.entry, args, out.data);
  lat::test::call_on_threads(kSubject.entry, args, out.data);
  for (int64_t row = 0; row < c.batch * c.tokens; ++row)
    for (int64_t at = 0; at < width; ++at) {
      const int64_t b = row / c.tokens, i = row % c.tokens;
      const double got = out.at(b, i, at);
      const int32_t kind = mask[static_cast<std::size_t>(row)];
      if (kind != LAT_TOKEN)
        demand(got == 0, "rows of padding and of globals are 0");
      else
        demand(std::fabs(got - expected(c, q, k, v, mask.data(), b, i, at)) < 1e-5, "the value");
    }
}

}  // namespace

int main(int count, char** arguments) {
  for (const int64_t tokens : {1, 2, 63, 64, 65, 200})
    for (const int64_t window : {1, 7, 64, 1000})
      for (const int kinds : {1, 2, 3}) check({2, tokens, 3, tokens % 2 ? 5 : 16, window, kinds});
  lat::test::call_at_random(kSubject, lat::test::calls_of(count, arguments));
}
