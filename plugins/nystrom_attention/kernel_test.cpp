// NystromAttention against its definition in double, on any threads, without memory, and called at random.
#include "nystrom_attention/kernel.h"

#include "common/kernel_test.h"

namespace {

using lat::test::demand;
using lat::test::Tensor;
using Args = lat_nystrom_attention_args;

// Landmarks that divide the tokens, few enough for the cubic pseudo-inverse.
int64_t landmarks_of(int64_t tokens, std::mt19937& random) {
  for (;;) {
    const int64_t landmarks = lat::test::between(random, 1, std::min<int64_t>(tokens, 70));
    if (tokens % landmarks == 0) return landmarks;
  }
}

constexpr lat::test::Subject<Args> kSubject{lat_nystrom_attention_cpu,
                                            [](Args& args) {
                                              return std::vector<lat_rows*>{&args.query, &args.key, &args.value};
                                            },
                                            [](Args& args, lat::test::Arrays& arrays, std::mt19937& random) {
                                              args.num_landmarks = landmarks_of(args.tokens, random);
                                              args.per_head_init = static_cast<int32_t>(random() % 2);
                                              args.taps = 2 * lat::test::between(random, 0, 40) + 1;
                                              if (random() % 4)
                                                args.conv_weight =
                                                    arrays.numbers(args.dtype, args.num_heads * args.taps, random);
                                            },
                                            [](Args& args) {
                                              return std::vector<int64_t*>{&args.num_landmarks, &args.taps};
                                            },
                                            [](Args& args) { return std::vector<int32_t*>{&args.per_head_init}; },
                                            [](Args&) { return std::vector<const void**>{}; },
                                            2};

struct Case {
  int64_t batch, tokens, heads, head_size, landmarks, taps;
  int kinds;
  int32_t per_head_init;
};

// Row by row.
struct Matrix {
  Matrix(int64_t rows, int64_t columns)
      : rows(rows), columns(columns), data(static_cast<std::size_t>(rows * columns), 0.0) {}
  double& at(int64_t i, int64_t j) { return data[static_cast<std::size_t>(i * columns + j)]; }
  double at(int64_t i, int64_t j) const { return data[static_cast<std::size_t>(i * columns + j)]; }
  int64_t rows, columns;
  std::vector<double> data;
};

Matrix times(const Matrix& a, const Matrix& b) {
  Matrix c(a.rows, b.columns);
  for (int64_t i = 0; i < a.rows; ++i)
    for (int64_t p = 0; p < a.columns; ++p)
      for (int64_t j = 0; j < b.columns; ++j) c.at(i, j) += a.at(i, p) * b.at(p, j);
  return c;
}

// softmax(a b^T / sqrt(D)) over the columns that `seen` has; over all where it has none.
Matrix attention(const Matrix& a, const Matrix& b, const int32_t* seen) {
  Matrix weights(a.rows, b.rows);
  bool any = seen == nullptr;
  for (int64_t j = 0; j < b.rows && !any; ++j) any = seen[j] != LAT_PADDING;
  for (int64_t i = 0; i < a.rows; ++i) {
    double largest = -INFINITY, sum = 0;
    for (int64_t j = 0; j < b.rows; ++j) {
      double& score = weights.at(i, j);
      for (int64_t d = 0; d < a.columns; ++d) score += a.at(i, d) * b.at(j, d);
      score /= std::sqrt(static_cast<double>(a.columns));
      if (!any) score = 0;
      if (any && seen != nullptr && seen[j] == LAT_PADDING) score = -INFINITY;
      largest = std::fmax(largest, score);
    }
    for (int64_t j = 0; j < b.rows; ++j) sum += weights.at(i, j) = std::exp(weights.at(i, j) - largest);
    for (int64_t j = 0; j < b.rows; ++j) weights.at(i, j) /= sum;
  }
  return weights;
}

Matrix of_head(const Case& c, const Tensor& rows, int64_t b, int64_t h) {
  Matrix head(c.tokens, c.head_size);
  for (int64_t i = 0; i < c.tokens; ++i)
    for (int64_t d = 0; d < c.head_size; ++d) head.at(i, d) = rows.at(b, i, h * c.head_size + d);
  return head;
}

Matrix means(const Case& c, const Matrix& rows) {
  Matrix landmarks(c.landmarks, c.head_size);
  const int64_t each = c.tokens / c.landmarks;
  for (int64_t i = 0; i < c.tokens; ++i)
    for (int64_t d = 0; d < c.head_size; ++d) landmarks.at(i / each, d) += rows.at(i, d) / static_cast<double>(each);
  return landmarks;
}

Matrix kernel_2(const Case& c, const Tensor& q, const Tensor& k, int64_t b, int64_t h) {
  return attention(means(c, of_head(c, q, b, h)), means(c, of_head(c, k, b, h)), nullptr);
}

double largest_column_sum(const Matrix& m) {
  double largest = 0;
  for (int64_t j = 0; j < m.columns; ++j) {
    double sum = 0;
    for (int64_t i = 0; i < m.rows; ++i) sum += m.at(i, j);
    largest = std::fmax(largest, sum);
  }
  return largest;
}

// The iteration of the contract.
Matrix inverse(const Matrix& m, double largest) {
  Matrix z(m.rows, m.rows);
  for (int64_t i = 0; i < m.rows; ++i)
    for (int64_t j = 0; j < m.rows; ++j) z.at(i, j) = m.at(j, i) / largest;
  const auto from_identity = [](double factor, Matrix x) {
    for (double& number : x.data) number = -number;
    for (int64_t i = 0; i < x.rows; ++i) x.at(i, i) += factor;
    return x;
  };
  for (int step = 0; step < 6; ++step) {
    const Matrix mz = times(m, z);
    z = times(z, from_identity(13, times(mz, from_identity(15, times(mz, from_identity(7, mz))))));
    for (double& number : z.data) number *= 0.25;
  }
  return z;
}

void check(const Case& c) {
  const int64_t width = c.heads * c.head_size;
  Tensor q(c.batch, c.tokens, width, 1), k(c.batch, c.tokens, width, 2), v(c.batch, c.tokens, width, 3), out = v;
  const std::vector<float> taps = lat::test::normal(c.heads * c.taps, 8, 0.3f);
  std::vector<int32_t> mask = lat::test::random_mask(c.batch * c.tokens, c.kinds, 4);
  for (int64_t i = 0; i < c.tokens; ++i) mask[static_cast<std::size_t>((c.batch - 1) * c.tokens + i)] = 0;
  const Args args{c.batch,         c.tokens, width,    c.heads,  c.landmarks, c.taps,      LAT_FLOAT32,
                  c.per_head_init, q.rows(), k.rows(), v.rows(), out.rows(),  mask.data(), taps.data()};
  lat::test::call_without_memory(kSubject.entry, args, out.data);
  lat::test::call_on_threads(kSubject.entry, args, out.data);
  double of_batch = 0;
  for (int64_t b = 0; b < c.batch; ++b)
    for (int64_t h = 0; h < c.heads; ++h) of_batch = std::fmax(of_batch, largest_column_sum(kernel_2(c, q, k, b, h)));
  for (int64_t b = 0; b < c.batch; ++b)
    for (int64_t h = 0; h < c.heads; ++h) {
      const Matrix query = of_head(c, q, b, h), key = of_head(c, k, b, h), value = of_head(c, v, b, h);
      const Matrix middle = kernel_2(c, q, k, b, h);
      const Matrix summary = times(inverse(middle, c.per_head_init ? largest_column_sum(middle) : of_batch),
                                   times(attention(means(c, query), key, mask.data() + b * c.tokens), value));
      const Matrix context = times(attention(query, means(c, key), nullptr), summary);
      for (int64_t i = 0; i < c.tokens; ++i)
        for (int64_t d = 0; d < c.head_size; ++d) {
          double sum = context.at(i, d);
          for (int64_t tap = 0; tap < c.taps; ++tap) {
            const int64_t from = i + tap - c.taps / 2;
            if (from >= 0 && from < c.tokens)
              sum += static_cast<double>(taps[static_cast<std::size_t>(h * c.taps + tap)]) * value.at(from, d);
          }
          demand(std::fabs(out.at(b, i, h * c.head_size + d) - sum) < 1e-4, "the value");
        }
    }
}

}  // namespace

int main(int count, char** arguments) {
  for (const int32_t per_head_init : {0, 1}) {
    for (const int kinds : {1, 2}) {
      check({2, 1, 1, 5, 1, 1, kinds, per_head_init});
      check({3, 24, 3, 5, 8, 5, kinds, per_head_init});
      check({2, 130, 2, 16, 65, 33, kinds, per_head_init});
    }
    check({2, 2080, 1, 8, 4, 3, 2, per_head_init});  // several segments of keys
  }
  lat::test::call_at_random(kSubject, lat::test::calls_of(count, arguments));
}
