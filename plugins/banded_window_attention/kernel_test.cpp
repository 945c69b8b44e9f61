// BandedWindowAttention against its definition in double, on 1 and 4 threads, and with hostile sizes.
#include "banded_window_attention/kernel.h"

#include <cstring>

#include "common/kernel_test.h"

namespace {

using lat::test::demand;

struct Case {
  int64_t batch, tokens, heads, head_size, window;
  int kinds;
};

lat_banded_window_attention_args arguments(const Case& c, std::vector<float>& q, std::vector<float>& k,
                                           std::vector<float>& v, std::vector<float>& out,
                                           const std::vector<int32_t>& mask) {
  const int64_t width = c.heads * c.head_size;
  const auto rows = [&](std::vector<float>& data) { return lat_rows{data.data(), c.tokens * width, width}; };
  return {c.batch,     c.tokens, width,   c.heads, c.window,  0.3f,
          LAT_FLOAT32, rows(q),  rows(k), rows(v), rows(out), mask.data()};
}

double expected(const Case& c, const std::vector<float>& q, const std::vector<float>& k, const std::vector<float>& v,
                const std::vector<int32_t>& mask, int64_t b, int64_t i, int64_t at) {
  const int64_t width = c.heads * c.head_size, head = at / c.head_size * c.head_size;
  const auto place = [&](int64_t token) { return static_cast<std::size_t>((b * c.tokens + token) * width); };
  std::vector<double> score(static_cast<std::size_t>(c.tokens), -INFINITY);
  double largest = -INFINITY, sum = 0, total = 0;
  for (int64_t j = 0; j < c.tokens; ++j) {
    const int32_t kind = mask[static_cast<std::size_t>(b * c.tokens + j)];
    if (kind != LAT_GLOBAL && (kind != LAT_TOKEN || std::llabs(i - j) > c.window)) continue;
    double s = 0;
    for (int64_t d = 0; d < c.head_size; ++d)
      s += static_cast<double>(q[place(i) + static_cast<std::size_t>(head + d)]) *
           static_cast<double>(k[place(j) + static_cast<std::size_t>(head + d)]);
    score[static_cast<std::size_t>(j)] = s * 0.3;
    largest = std::fmax(largest, s * 0.3);
  }
  for (int64_t j = 0; j < c.tokens; ++j) {
    const double p = std::exp(score[static_cast<std::size_t>(j)] - largest);
    sum += p;
    total += p * static_cast<double>(v[place(j) + static_cast<std::size_t>(at)]);
  }
  return total / sum;
}

void check(const Case& c) {
  const int64_t count = c.batch * c.tokens * c.heads * c.head_size;
  std::vector<float> q = lat::test::normal(count, 1), k = lat::test::normal(count, 2), v = lat::test::normal(count, 3);
  std::vector<float> first(static_cast<std::size_t>(count), NAN), second = first;
  const std::vector<int32_t> mask = lat::test::random_mask(c.batch * c.tokens, c.kinds, 4);
  for (std::vector<float>* out : {&first, &second}) {
    const lat_banded_window_attention_args args = arguments(c, q, k, v, *out, mask);
    int threads = out == &first ? 1 : 4;
    const lat_parallel parallel{lat::test::run_on_threads, &threads, threads};
    lat_status status;
    lat_banded_window_attention_cpu(&args, &parallel, &status);
    demand(status.code == LAT_OK, "status", status.message);
  }
  demand(std::memcmp(first.data(), second.data(), first.size() * sizeof(float)) == 0, "same bits on 1 and 4 threads");
  const int64_t width = c.heads * c.head_size;
  for (int64_t row = 0; row < c.batch * c.tokens; ++row)
    for (int64_t at = 0; at < width; ++at) {
      const double got = static_cast<double>(first[static_cast<std::size_t>(row * width + at)]);
      const int32_t kind = mask[static_cast<std::size_t>(row)];
      if (kind == LAT_PADDING)
        demand(got == 0, "padded rows are 0");
      else if (kind == LAT_GLOBAL)
        demand(std::isfinite(got), "global rows are finite");
      else
        demand(std::fabs(got - expected(c, q, k, v, mask, row / c.tokens, row % c.tokens, at)) < 1e-5, "the value");
    }
}

void refuse_hostile_sizes() {
  std::mt19937 random(5);
  std::vector<float> data = lat::test::normal(64, 6);
  int threads = 1;
  const lat_parallel parallel{lat::test::run_on_threads, &threads, threads};
  // The mask is null: sizes that are sound are refused there, before anything is read.
  for (int round = 0; round < 20000; ++round) {
    const auto size = [&] { return lat::test::hostile_size(random); };
    const auto rows = [&] { return lat_rows{random() % 8 ? data.data() : nullptr, size(), size()}; };
    const lat_banded_window_attention_args args{
        size(), size(), size(), size(), size(), 1.0f, static_cast<int32_t>(random() % 4),
        rows(), rows(), rows(), rows(), nullptr};
    lat_status status;
    std::memset(&status, 1, sizeof status);
    lat_banded_window_attention_cpu(&args, &parallel, &status);
    demand(status.code == LAT_BAD_ARGUMENT && status.message[0] != 0 && std::memchr(status.message, 0, 252), "refused");
  }
}

}  // namespace

int main() {
  for (const int64_t tokens : {1, 2, 63, 64, 65, 200})
    for (const int64_t window : {1, 7, 64, 1000})
      for (const int kinds : {1, 2, 3}) check({2, tokens, 3, tokens % 2 ? 5 : 16, window, kinds});
  refuse_hostile_sizes();
}
