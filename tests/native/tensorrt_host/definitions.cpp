#include "definitions.h"

#include <algorithm>
#include <cmath>
#include <random>

namespace playing {
namespace {

// softmax over the keys that `allowed` lets through, of one row and head, into
// `output`.
template <class Score, class Allowed, class Value>
void attend(Score&& score, Allowed&& allowed, Value&& value, double* output) {
  double largest = -INFINITY, sum = 0;
  for (int64_t key = 0; key < kTokens; ++key)
    if (allowed(key)) largest = std::max(largest, score(key));
  for (int64_t key = 0; key < kTokens; ++key) {
    if (!allowed(key)) continue;
    const double weight = std::exp(score(key) - largest);
    sum += weight;
    for (int64_t at = 0; at < kHeadSize; ++at) output[at] += weight * value(key, at);
  }
  for (int64_t at = 0; at < kHeadSize; ++at) output[at] /= sum;
}

// The numbers of one head of a token.
std::size_t place_of(int64_t batch, int64_t head, int64_t token) {
  return static_cast<std::size_t>((batch * kTokens + token) * kWidth + head * kHeadSize);
}

double product(const double* a, const double* b) {
  double sum = 0;
  for (int64_t at = 0; at < kHeadSize; ++at) sum += a[at] * b[at];
  return sum;
}

// Rows of a head, and what NystromAttention does with them.
using Matrix = std::vector<std::vector<double>>;

Matrix times(const Matrix& left, const Matrix& right) {
  Matrix product(left.size(), std::vector<double>(right[0].size(), 0.0));
  for (std::size_t row = 0; row < left.size(); ++row)
    for (std::size_t at = 0; at < right.size(); ++at)
      for (std::size_t column = 0; column < right[0].size(); ++column)
        product[row][column] += left[row][at] * right[at][column];
  return product;
}

Matrix transposed(const Matrix& matrix) {
  Matrix other(matrix[0].size(), std::vector<double>(matrix.size()));
  for (std::size_t row = 0; row < matrix.size(); ++row)
    for (std::size_t column = 0; column < matrix[0].size(); ++column) other[column][row] = matrix[row][column];
  return other;
}

// softmax of left right^T / sqrt(D), without the keys whose `kinds` are 0.
Matrix weights_of(const Matrix& left, const Matrix& right, const int32_t* kinds) {
  Matrix weights = times(left, transposed(right));
  for (std::vector<double>& row : weights) {
    double largest = -INFINITY, sum = 0;
    for (double& score : row) largest = std::max(largest, score /= std::sqrt(static_cast<double>(kHeadSize)));
    for (std::size_t key = 0; key < row.size(); ++key)
      sum += row[key] = kinds != nullptr && kinds[key] == 0 ? 0.0 : std::exp(row[key] - largest);
    for (double& weight : row) weight /= sum;
  }
  return weights;
}

Matrix means(const Matrix& rows) {
  const std::size_t count = rows.size() / static_cast<std::size_t>(kLandmarks);
  Matrix mean(static_cast<std::size_t>(kLandmarks), std::vector<double>(rows[0].size(), 0.0));
  for (std::size_t row = 0; row < rows.size(); ++row)
    for (std::size_t at = 0; at < rows[0].size(); ++at)
      mean[row / count][at] += rows[row][at] / static_cast<double>(count);
  return mean;
}

double largest_column_sum(const Matrix& matrix) {
  double largest = 0;
  for (const std::vector<double>& column : transposed(matrix)) {
    double sum = 0;
    for (double number : column) sum += number;
    largest = std::max(largest, sum);
  }
  return largest;
}

Matrix inverse(const Matrix& matrix, double largest) {
  Matrix found = transposed(matrix);
  for (std::vector<double>& row : found)
    for (double& number : row) number /= largest;
  const auto taken_from = [](double factor, Matrix from) {
    for (std::size_t row = 0; row < from.size(); ++row)
      for (std::size_t at = 0; at < from.size(); ++at) from[row][at] = (row == at ? factor : 0.0) - from[row][at];
    return from;
  };
  for (int step = 0; step < 6; ++step) {
    const Matrix product = times(matrix, found);
    const Matrix inner = taken_from(15, times(product, taken_from(7, product)));
    found = times(found, taken_from(13, times(product, inner)));
    for (std::vector<double>& row : found)
      for (double& number : row) number *= 0.25;
  }
  return found;
}

}  // namespace

Numbers random_numbers(std::size_t count, unsigned seed, float spread) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal(0.0F, spread);
  Numbers numbers(count);
  for (float& number : numbers) number = normal(engine);
  return numbers;
}

std::vector<int32_t> token_mask() {
  std::vector<int32_t> mask(kBatch * kTokens, 1);
  for (int64_t at = 0; at < 20; ++at) mask[at] = mask[2 * kTokens - 1 - at] = 0;
  mask[25] = mask[149] = mask[kTokens] = mask[kTokens + 77] = 2;
  return mask;
}

std::vector<double> definition(const std::vector<double>& query, const std::vector<double>& key,
                               const std::vector<double>& value, const std::vector<int32_t>& mask, bool banded) {
  std::vector<double> output(query.size(), 0.0);
  for (int64_t batch = 0; batch < kBatch; ++batch) {
    const int32_t* kinds = mask.data() + batch * kTokens;
    for (int64_t row = 0; row < kTokens; ++row) {
      if (kinds[row] != (banded ? 1 : 2)) continue;
      for (int64_t head = 0; head < kHeads; ++head) {
        const auto at = [&](int64_t token, int64_t index) {
          return static_cast<std::size_t>((batch * kTokens + token) * kWidth + head * kHeadSize + index);
        };
        attend(
            [&](int64_t token) {
              double sum = 0;
              for (int64_t index = 0; index < kHeadSize; ++index) sum += query[at(row, index)] * key[at(token, index)];
              return sum * static_cast<double>(kScale);
            },
            [&](int64_t token) {
              if (!banded) return kinds[token] != 0;
              return kinds[token] == 2 || (kinds[token] == 1 && std::abs(token - row) <= kWindow);
            },
            [&](int64_t token, int64_t index) { return value[at(token, index)]; }, &output[at(row, 0)]);
      }
    }
  }
  return output;
}

std::vector<double> collisions(const std::vector<double>& query, const std::vector<double>& key,
                               const std::vector<double>& value, const std::vector<int32_t>& mask) {
  std::vector<double> output(query.size(), 0.0);
  const auto is_token = [&](int64_t batch, int64_t token) {
    return mask[static_cast<std::size_t>(batch * kTokens + token)] != 0;
  };
  for (int64_t batch = 0; batch < kBatch; ++batch)
    for (int64_t head = 0; head < kHeads; ++head)
      for (int64_t row = 0; row < kTokens; ++row) {
        if (!is_token(batch, row)) continue;
        const double* const q = &query[place_of(batch, head, row)];
        double* const to = &output[place_of(batch, head, row)];
        for (int64_t token = 0; token < kTokens; ++token) {
          if (!is_token(batch, token)) continue;
          const double* const k = &key[place_of(batch, head, token)];
          const double cosine = product(q, k) / std::sqrt(product(q, q) * product(k, k));
          const double rate = 1 - std::acos(std::max(-1.0, std::min(1.0, cosine))) / std::acos(-1.0);
          for (int64_t at = 0; at < kHeadSize; ++at)
            to[at] += std::pow(rate, static_cast<double>(kBits)) *
                      value[place_of(batch, head, token) + static_cast<std::size_t>(at)];
        }
        const double norm = std::sqrt(product(to, to));
        for (int64_t at = 0; at < kHeadSize; ++at) to[at] /= norm;
      }
  return output;
}

std::vector<double> full(const std::vector<double>& query, const std::vector<double>& key,
                         const std::vector<double>& value, const std::vector<int32_t>& mask, const Numbers& taps) {
  std::vector<double> output(query.size(), 0.0);
  const double scale = 1 / std::sqrt(static_cast<double>(kHeadSize));
  for (int64_t batch = 0; batch < kBatch; ++batch)
    for (int64_t head = 0; head < kHeads; ++head)
      for (int64_t row = 0; row < kTokens; ++row) {
        const auto number = [&](int64_t token, int64_t at) {
          return value[place_of(batch, head, token) + static_cast<std::size_t>(at)];
        };
        double* const to = &output[place_of(batch, head, row)];
        attend(
            [&](int64_t token) {
              return scale * product(&query[place_of(batch, head, row)], &key[place_of(batch, head, token)]);
            },
            [&](int64_t token) { return mask[static_cast<std::size_t>(batch * kTokens + token)] != 0; }, number, to);
        for (int64_t tap = 0; tap < kTaps; ++tap) {
          const int64_t token = row + tap - kTaps / 2;
          if (token < 0 || token >= kTokens) continue;
          for (int64_t at = 0; at < kHeadSize; ++at)
            to[at] += static_cast<double>(taps[static_cast<std::size_t>(head * kTaps + tap)]) * number(token, at);
        }
      }
  return output;
}

std::vector<double> nystrom_definition(const Numbers& query, const Numbers& key, const Numbers& value,
                                       const std::vector<int32_t>& mask, const Numbers& taps) {
  std::vector<double> output(query.size());
  const auto rows_of = [](const Numbers& numbers, int64_t batch, int64_t head) {
    Matrix rows(kTokens, std::vector<double>(kHeadSize));
    for (int64_t row = 0; row < kTokens; ++row)
      for (int64_t at = 0; at < kHeadSize; ++at)
        rows[row][at] = numbers[static_cast<std::size_t>((batch * kTokens + row) * kWidth + head * kHeadSize + at)];
    return rows;
  };
  double largest = 0;
  for (const bool last : {false, true}) {
    for (int64_t batch = 0; batch < kBatch; ++batch) {
      for (int64_t head = 0; head < kHeads; ++head) {
        const Matrix q = rows_of(query, batch, head), k = rows_of(key, batch, head), v = rows_of(value, batch, head);
        const Matrix kernel_2 = weights_of(means(q), means(k), nullptr);
        if (!last) {
          largest = std::max(largest, largest_column_sum(kernel_2));
          continue;
        }
        const Matrix mixed = times(weights_of(means(q), k, mask.data() + batch * kTokens), v);
        const Matrix context = times(weights_of(q, means(k), nullptr), times(inverse(kernel_2, largest), mixed));
        for (int64_t row = 0; row < kTokens; ++row)
          for (int64_t at = 0; at < kHeadSize; ++at) {
            double sum = context[row][at];
            for (int64_t tap = 0; tap < kTaps; ++tap) {
              const int64_t from = row + tap - kTaps / 2;
              if (from >= 0 && from < kTokens)
                sum += static_cast<double>(taps[static_cast<std::size_t>(head * kTaps + tap)]) * v[from][at];
            }
            output[static_cast<std::size_t>((batch * kTokens + row) * kWidth + head * kHeadSize + at)] = sum;
          }
      }
    }
  }
  return output;
}

std::vector<double> doubles(const Numbers& numbers) { return {numbers.begin(), numbers.end()}; }

std::vector<double> projected(const Numbers& rows, const Numbers& weight, const Numbers& bias) {
  std::vector<double> output(rows.size());
  for (int64_t row = 0; row < kBatch * kTokens; ++row) {
    for (int64_t out = 0; out < kWidth; ++out) {
      double sum = bias.empty() ? 0.0 : static_cast<double>(bias[static_cast<std::size_t>(out)]);
      for (int64_t in = 0; in < kWidth; ++in)
        sum += static_cast<double>(rows[static_cast<std::size_t>(row * kWidth + in)]) *
               static_cast<double>(weight[static_cast<std::size_t>(out * kWidth + in)]);
      output[static_cast<std::size_t>(row * kWidth + out)] = sum;
    }
  }
  return output;
}

Numbers halves(Numbers numbers) {
  for (float& number : numbers) number = std::round(number * 2) / 2;
  return numbers;
}

std::vector<double> sampled_attention(const Numbers& query, const Numbers& key, const Numbers& value,
                                      const Numbers& projection, const std::vector<int32_t>& mask) {
  const auto code = [&](const Numbers& rows, int64_t row, int64_t head, int64_t hash) {
    int64_t found = 0;
    for (int64_t t = 0; t < kCodeLength; ++t) {
      double sum = 0;
      for (int64_t at = 0; at < kHeadSize; ++at)
        sum += static_cast<double>(rows[static_cast<std::size_t>(row * kWidth + head * kHeadSize + at)]) *
               static_cast<double>(
                   projection[static_cast<std::size_t>(((head * kHeadSize + at) * kHashes + hash) * kCodeLength + t)]);
      found |= static_cast<int64_t>(sum > 0) << t;
    }
    return found;
  };
  std::vector<double> output(query.size(), 0.0);
  for (int64_t head = 0; head < kHeads; ++head)
    for (int64_t row = 0; row < kBatch * kTokens; ++row) {
      if (mask[static_cast<std::size_t>(row)] == 0) continue;
      double* const sum = &output[static_cast<std::size_t>(row * kWidth + head * kHeadSize)];
      for (int64_t hash = 0; hash < kHashes; ++hash) {
        const int64_t own = code(query, row, head, hash), first = row / kTokens * kTokens;
        for (int64_t other = first; other < first + kTokens; ++other)
          if (mask[static_cast<std::size_t>(other)] != 0 && code(key, other, head, hash) == own)
            for (int64_t at = 0; at < kHeadSize; ++at)
              sum[at] += value[static_cast<std::size_t>(other * kWidth + head * kHeadSize + at)];
      }
      double squares = 0;
      for (int64_t at = 0; at < kHeadSize; ++at) squares += sum[at] * sum[at];
      for (int64_t at = 0; at < kHeadSize; ++at) sum[at] /= std::max(std::sqrt(squares), 1e-12);
    }
  return output;
}

}  // namespace playing
