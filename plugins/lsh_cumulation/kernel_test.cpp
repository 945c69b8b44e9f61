// LshCumulation against its definition in double, on any threads, without memory, and called at random.
// Numbers are halves of small integers, so that every projection is exact and no sign is in doubt.
#include "lsh_cumulation/kernel.h"

#include "common/kernel_test.h"

namespace {

using lat::test::demand;
using lat::test::Tensor;
using Args = lat_lsh_cumulation_args;

constexpr lat::test::Subject<Args> kSubject{
    lat_lsh_cumulation_cpu,
    [](Args& args) {
      return std::vector<lat_rows*>{&args.query, &args.key, &args.value};
    },
    [](Args& args, lat::test::Arrays& arrays, std::mt19937& random) {
      args.num_hash = lat::test::between(random, 1, 12);
      args.hash_code_len = random() % 16 ? lat::test::between(random, 1, 9) : 16;
      args.projection = arrays.numbers(args.dtype, args.width * args.num_hash * args.hash_code_len, random);
    },
    [](Args& args) {
      return std::vector<int64_t*>{&args.num_hash, &args.hash_code_len};
    },
    [](Args&) { return std::vector<int32_t*>{}; },
    [](Args& args) { return std::vector<const void**>{&args.projection}; },
    2};

struct Case {
  int64_t batch, tokens, heads, head_size, hashes, bits;
  int kinds;
};

void halve(std::vector<float>& numbers) {
  for (float& number : numbers) number = std::round(number * 2) / 2;
}

int64_t code(const Case& c, const float* row, const float* projection, int64_t hash) {
  int64_t found = 0;
  for (int64_t t = 0; t < c.bits; ++t) {
    double sum = 0;
    for (int64_t d = 0; d < c.head_size; ++d)
      sum += static_cast<double>(row[d]) * static_cast<double>(projection[d * c.hashes * c.bits + hash * c.bits + t]);
    found |= static_cast<int64_t>(sum > 0) << t;
  }
  return found;
}

void check(const Case& c) {
  const int64_t width = c.heads * c.head_size;
  Tensor q(c.batch, c.tokens, width, 1), k(c.batch, c.tokens, width, 2), v(c.batch, c.tokens, width, 3), out = v;
  std::vector<float> projection = lat::test::normal(width * c.hashes * c.bits, 6);
  for (std::vector<float>* numbers : {&q.data, &k.data, &projection}) halve(*numbers);
  const std::vector<int32_t> mask = lat::test::random_mask(c.batch * c.tokens, c.kinds, 4);
  const Args args{c.batch,  c.tokens, width,    c.heads,    c.hashes,    c.bits,           LAT_FLOAT32,
                  q.rows(), k.rows(), v.rows(), out.rows(), mask.data(), projection.data()};
  lat::test::call_without_memory(kSubject.entry, args, out.data);
  lat::test::call_on_threads(kSubject.entry, args, out.data);
  std::vector<double> sum(static_cast<std::size_t>(c.head_size));
  for (int64_t b = 0; b < c.batch; ++b)
    for (int64_t h = 0; h < c.heads; ++h) {
      const float* of_head = projection.data() + h * c.head_size * c.hashes * c.bits;
      const auto codes = [&](const Tensor& rows) {
        std::vector<int64_t> all;
        for (int64_t i = 0; i < c.tokens; ++i)
          for (int64_t r = 0; r < c.hashes; ++r) all.push_back(code(c, rows.row(b, i) + h * c.head_size, of_head, r));
        return all;
      };
      const std::vector<int64_t> of_query = codes(q), of_key = codes(k);
      for (int64_t i = 0; i < c.tokens; ++i) {
        std::fill(sum.begin(), sum.end(), 0.0);
        for (int64_t j = 0; j < c.tokens; ++j)
          for (int64_t r = 0; r < c.hashes; ++r)
            if (mask[static_cast<std::size_t>(b * c.tokens + j)] != LAT_PADDING &&
                of_query[static_cast<std::size_t>(i * c.hashes + r)] ==
                    of_key[static_cast<std::size_t>(j * c.hashes + r)])
              for (int64_t d = 0; d < c.head_size; ++d)
                sum[static_cast<std::size_t>(d)] += v.at(b, j, h * c.head_size + d);
        double squares = 0;
        for (double& number : sum) {
          number /= static_cast<double>(c.hashes);
          squares += number * number;
        }
        const bool padded = mask[static_cast<std::size_t>(b * c.tokens + i)] == LAT_PADDING;
        for (int64_t d = 0; d < c.head_size; ++d) {
          const double value = sum[static_cast<std::size_t>(d)] / std::fmax(std::sqrt(squares), 1e-12);
          demand(std::fabs(out.at(b, i, h * c.head_size + d) - (padded ? 0 : value)) < 1e-4, "the value");
        }
      }
    }
}

}  // namespace

int main(int count, char** arguments) {
  for (const int64_t tokens : {1, 2, 33, 65, 300})
    for (const int kinds : {1, 2}) check({2, tokens, tokens == 33 ? 9 : 2, tokens % 2 ? 5 : 40, 5, 4, kinds});
  check({1, 40, 1, 16, 9, 16, 2});  // one table at a time, cleared row by row
  lat::test::call_at_random(kSubject, lat::test::calls_of(count, arguments));
}
