// Enqueue on a GPU, with the real kernels: outputs against the definition in
// double. The driver is asked for at run time, so that this builds and runs,
// without this step, where there is none.
#include <dlfcn.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "host.h"

namespace playing {
namespace {

constexpr int64_t kBatch = 2, kTokens = 150, kWidth = 96, kHeads = 3,
                  kHeadSize = 32, kWindow = 9;
constexpr int64_t kTaps = 5, kBits = 9, kHashes = 5, kCodeLength = 4;
constexpr float kScale = 0.4F;
// float32 sums of 100 terms near 1.
constexpr double kTolerance = 1e-4;

// CUDA's driver, as much of it as this needs.
class Driver {
public:
  Driver() {
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    if (library == nullptr)
      return;
    const auto find = [&](auto &function, const char *name) {
      function = reinterpret_cast<std::decay_t<decltype(function)>>(
          dlsym(library, name));
      return function != nullptr;
    };
    int (*initialise)(unsigned) = nullptr;
    int (*count)(int *) = nullptr;
    int (*retain)(void **, int) = nullptr;
    int (*make_current)(void *) = nullptr;
    int gpus = 0;
    if (!find(initialise, "cuInit") || !find(count, "cuDeviceGetCount") ||
        !find(retain, "cuDevicePrimaryCtxRetain") ||
        !find(make_current, "cuCtxSetCurrent") ||
        !find(allocate_, "cuMemAlloc_v2") || !find(free_, "cuMemFree_v2") ||
        !find(upload_, "cuMemcpyHtoD_v2") ||
        !find(download_, "cuMemcpyDtoH_v2") ||
        !find(make_stream_, "cuStreamCreate") ||
        !find(wait_, "cuStreamSynchronize"))
      return;
    if (initialise(0) != 0 || count(&gpus) != 0 || gpus == 0)
      return;
    // The context that the CUDA runtime in the library uses too.
    void *context = nullptr;
    EXPECT(retain(&context, 0) == 0 && make_current(context) == 0);
    found_ = true;
  }
  bool found() const { return found_; }

  void *stream() const {
    void *stream = nullptr;
    EXPECT(make_stream_(&stream, 0) == 0);
    return stream;
  }
  void wait(void *stream) const { EXPECT(wait_(stream) == 0); }
  unsigned long long allocate(std::size_t bytes) const {
    unsigned long long address = 0;
    EXPECT(allocate_(&address, bytes) == 0);
    return address;
  }
  void release(unsigned long long address) const {
    EXPECT(free_(address) == 0);
  }
  void upload(unsigned long long to, const void *from,
              std::size_t bytes) const {
    EXPECT(upload_(to, from, bytes) == 0);
  }
  void download(void *to, unsigned long long from, std::size_t bytes) const {
    EXPECT(download_(to, from, bytes) == 0);
  }

private:
  bool found_ = false;
  int (*allocate_)(unsigned long long *, std::size_t) = nullptr;
  int (*free_)(unsigned long long) = nullptr;
  int (*upload_)(unsigned long long, const void *, std::size_t) = nullptr;
  int (*download_)(void *, unsigned long long, std::size_t) = nullptr;
  int (*make_stream_)(void **, unsigned) = nullptr;
  int (*wait_)(void *) = nullptr;
};

class Buffer {
public:
  Buffer(const Driver &driver, std::size_t bytes)
      : driver_(driver), address_(driver.allocate(bytes)) {}
  Buffer(const Driver &driver, const void *from, std::size_t bytes)
      : Buffer(driver, bytes) {
    driver.upload(address_, from, bytes);
  }
  ~Buffer() { driver_.release(address_); }
  Buffer(const Buffer &) = delete;
  Buffer &operator=(const Buffer &) = delete;

  unsigned long long address() const { return address_; }
  void *pointer() const { return reinterpret_cast<void *>(address_); }

private:
  const Driver &driver_;
  unsigned long long address_;
};

using Numbers = std::vector<float>;

Numbers random_numbers(std::size_t count, unsigned seed, float spread) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal(0.0F, spread);
  Numbers numbers(count);
  for (float &number : numbers)
    number = normal(engine);
  return numbers;
}

// Left padding in one row, right padding in the other; globals at scattered
// places.
std::vector<int32_t> token_mask() {
  std::vector<int32_t> mask(kBatch * kTokens, 1);
  for (int64_t at = 0; at < 20; ++at)
    mask[at] = mask[2 * kTokens - 1 - at] = 0;
  mask[25] = mask[149] = mask[kTokens] = mask[kTokens + 77] = 2;
  return mask;
}

// softmax over the keys that `allowed` lets through, of one row and head, into
// `output`.
template <class Score, class Allowed, class Value>
void attend(Score &&score, Allowed &&allowed, Value &&value, double *output) {
  double largest = -INFINITY, sum = 0;
  for (int64_t key = 0; key < kTokens; ++key)
    if (allowed(key))
      largest = std::max(largest, score(key));
  for (int64_t key = 0; key < kTokens; ++key) {
    if (!allowed(key))
      continue;
    const double weight = std::exp(score(key) - largest);
    sum += weight;
    for (int64_t at = 0; at < kHeadSize; ++at)
      output[at] += weight * value(key, at);
  }
  for (int64_t at = 0; at < kHeadSize; ++at)
    output[at] /= sum;
}

// Rows of `kind` by the definition; rows of other tokens zero.
std::vector<double> definition(const std::vector<double> &query,
                               const std::vector<double> &key,
                               const std::vector<double> &value,
                               const std::vector<int32_t> &mask, bool banded) {
  std::vector<double> output(query.size(), 0.0);
  for (int64_t batch = 0; batch < kBatch; ++batch) {
    const int32_t *kinds = mask.data() + batch * kTokens;
    for (int64_t row = 0; row < kTokens; ++row) {
      if (kinds[row] != (banded ? 1 : 2))
        continue;
      for (int64_t head = 0; head < kHeads; ++head) {
        const auto at = [&](int64_t token, int64_t index) {
          return static_cast<std::size_t>((batch * kTokens + token) * kWidth +
                                          head * kHeadSize + index);
        };
        attend(
            [&](int64_t token) {
              double sum = 0;
              for (int64_t index = 0; index < kHeadSize; ++index)
                sum += query[at(row, index)] * key[at(token, index)];
              return sum * static_cast<double>(kScale);
            },
            [&](int64_t token) {
              if (!banded)
                return kinds[token] != 0;
              return kinds[token] == 2 ||
                     (kinds[token] == 1 && std::abs(token - row) <= kWindow);
            },
            [&](int64_t token, int64_t index) {
              return value[at(token, index)];
            },
            &output[at(row, 0)]);
      }
    }
  }
  return output;
}

// The numbers of one head of a token.
std::size_t place_of(int64_t batch, int64_t head, int64_t token) {
  return static_cast<std::size_t>((batch * kTokens + token) * kWidth +
                                  head * kHeadSize);
}

double product(const double *a, const double *b) {
  double sum = 0;
  for (int64_t at = 0; at < kHeadSize; ++at)
    sum += a[at] * b[at];
  return sum;
}

// Values weighted by the T-th power of 1 - acos(cosine) / pi, each row of a
// head divided by its norm; padding is zero.
std::vector<double> collisions(const std::vector<double> &query,
                               const std::vector<double> &key,
                               const std::vector<double> &value,
                               const std::vector<int32_t> &mask) {
  std::vector<double> output(query.size(), 0.0);
  const auto is_token = [&](int64_t batch, int64_t token) {
    return mask[static_cast<std::size_t>(batch * kTokens + token)] != 0;
  };
  for (int64_t batch = 0; batch < kBatch; ++batch)
    for (int64_t head = 0; head < kHeads; ++head)
      for (int64_t row = 0; row < kTokens; ++row) {
        if (!is_token(batch, row))
          continue;
        const double *const q = &query[place_of(batch, head, row)];
        double *const to = &output[place_of(batch, head, row)];
        for (int64_t token = 0; token < kTokens; ++token) {
          if (!is_token(batch, token))
            continue;
          const double *const k = &key[place_of(batch, head, token)];
          const double cosine =
              product(q, k) / std::sqrt(product(q, q) * product(k, k));
          const double rate =
              1 - std::acos(std::max(-1.0, std::min(1.0, cosine))) /
                      std::acos(-1.0);
          for (int64_t at = 0; at < kHeadSize; ++at)
            to[at] += std::pow(rate, static_cast<double>(kBits)) *
                      value[place_of(batch, head, token) +
                            static_cast<std::size_t>(at)];
        }
        const double norm = std::sqrt(product(to, to));
        for (int64_t at = 0; at < kHeadSize; ++at)
          to[at] /= norm;
      }
  return output;
}

// Softmax over all tokens, and a convolution of the values; every row.
std::vector<double> full(const std::vector<double> &query,
                         const std::vector<double> &key,
                         const std::vector<double> &value,
                         const std::vector<int32_t> &mask,
                         const Numbers &taps) {
  std::vector<double> output(query.size(), 0.0);
  const double scale = 1 / std::sqrt(static_cast<double>(kHeadSize));
  for (int64_t batch = 0; batch < kBatch; ++batch)
    for (int64_t head = 0; head < kHeads; ++head)
      for (int64_t row = 0; row < kTokens; ++row) {
        const auto number = [&](int64_t token, int64_t at) {
          return value[place_of(batch, head, token) +
                       static_cast<std::size_t>(at)];
        };
        double *const to = &output[place_of(batch, head, row)];
        attend(
            [&](int64_t token) {
              return scale * product(&query[place_of(batch, head, row)],
                                     &key[place_of(batch, head, token)]);
            },
            [&](int64_t token) {
              return mask[static_cast<std::size_t>(batch * kTokens + token)] !=
                     0;
            },
            number, to);
        for (int64_t tap = 0; tap < kTaps; ++tap) {
          const int64_t token = row + tap - kTaps / 2;
          if (token < 0 || token >= kTokens)
            continue;
          for (int64_t at = 0; at < kHeadSize; ++at)
            to[at] += static_cast<double>(
                          taps[static_cast<std::size_t>(head * kTaps + tap)]) *
                      number(token, at);
        }
      }
  return output;
}

// Rows of a head, and what NystromAttention does with them.
constexpr int64_t kLandmarks = 10;
using Matrix = std::vector<std::vector<double>>;

Matrix times(const Matrix &left, const Matrix &right) {
  Matrix product(left.size(), std::vector<double>(right[0].size(), 0.0));
  for (std::size_t row = 0; row < left.size(); ++row)
    for (std::size_t at = 0; at < right.size(); ++at)
      for (std::size_t column = 0; column < right[0].size(); ++column)
        product[row][column] += left[row][at] * right[at][column];
  return product;
}

Matrix transposed(const Matrix &matrix) {
  Matrix other(matrix[0].size(), std::vector<double>(matrix.size()));
  for (std::size_t row = 0; row < matrix.size(); ++row)
    for (std::size_t column = 0; column < matrix[0].size(); ++column)
      other[column][row] = matrix[row][column];
  return other;
}

// softmax of left right^T / sqrt(D), without the keys whose `kinds` are 0.
Matrix weights_of(const Matrix &left, const Matrix &right,
                  const int32_t *kinds) {
  Matrix weights = times(left, transposed(right));
  for (std::vector<double> &row : weights) {
    double largest = -INFINITY, sum = 0;
    for (double &score : row)
      largest =
          std::max(largest, score /= std::sqrt(static_cast<double>(kHeadSize)));
    for (std::size_t key = 0; key < row.size(); ++key)
      sum += row[key] = kinds != nullptr && kinds[key] == 0
                            ? 0.0
                            : std::exp(row[key] - largest);
    for (double &weight : row)
      weight /= sum;
  }
  return weights;
}

Matrix means(const Matrix &rows) {
  const std::size_t count = rows.size() / static_cast<std::size_t>(kLandmarks);
  Matrix mean(static_cast<std::size_t>(kLandmarks),
              std::vector<double>(rows[0].size(), 0.0));
  for (std::size_t row = 0; row < rows.size(); ++row)
    for (std::size_t at = 0; at < rows[0].size(); ++at)
      mean[row / count][at] += rows[row][at] / static_cast<double>(count);
  return mean;
}

double largest_column_sum(const Matrix &matrix) {
  double largest = 0;
  for (const std::vector<double> &column : transposed(matrix)) {
    double sum = 0;
    for (double number : column)
      sum += number;
    largest = std::max(largest, sum);
  }
  return largest;
}

Matrix inverse(const Matrix &matrix, double largest) {
  Matrix found = transposed(matrix);
  for (std::vector<double> &row : found)
    for (double &number : row)
      number /= largest;
  const auto taken_from = [](double factor, Matrix from) {
    for (std::size_t row = 0; row < from.size(); ++row)
      for (std::size_t at = 0; at < from.size(); ++at)
        from[row][at] = (row == at ? factor : 0.0) - from[row][at];
    return from;
  };
  for (int step = 0; step < 6; ++step) {
    const Matrix product = times(matrix, found);
    const Matrix inner = taken_from(15, times(product, taken_from(7, product)));
    found = times(found, taken_from(13, times(product, inner)));
    for (std::vector<double> &row : found)
      for (double &number : row)
        number *= 0.25;
  }
  return found;
}

std::vector<double> nystrom_definition(const Numbers &query, const Numbers &key,
                                       const Numbers &value,
                                       const std::vector<int32_t> &mask,
                                       const Numbers &taps) {
  std::vector<double> output(query.size());
  const auto rows_of = [](const Numbers &numbers, int64_t batch, int64_t head) {
    Matrix rows(kTokens, std::vector<double>(kHeadSize));
    for (int64_t row = 0; row < kTokens; ++row)
      for (int64_t at = 0; at < kHeadSize; ++at)
        rows[row][at] = numbers[static_cast<std::size_t>(
            (batch * kTokens + row) * kWidth + head * kHeadSize + at)];
    return rows;
  };
  double largest = 0;
  for (const bool last : {false, true}) {
    for (int64_t batch = 0; batch < kBatch; ++batch) {
      for (int64_t head = 0; head < kHeads; ++head) {
        const Matrix q = rows_of(query, batch, head),
                     k = rows_of(key, batch, head),
                     v = rows_of(value, batch, head);
        const Matrix kernel_2 = weights_of(means(q), means(k), nullptr);
        if (!last) {
          largest = std::max(largest, largest_column_sum(kernel_2));
          continue;
        }
        const Matrix mixed =
            times(weights_of(means(q), k, mask.data() + batch * kTokens), v);
        const Matrix context = times(weights_of(q, means(k), nullptr),
                                     times(inverse(kernel_2, largest), mixed));
        for (int64_t row = 0; row < kTokens; ++row)
          for (int64_t at = 0; at < kHeadSize; ++at) {
            double sum = context[row][at];
            for (int64_t tap = 0; tap < kTaps; ++tap) {
              const int64_t from = row + tap - kTaps / 2;
              if (from >= 0 && from < kTokens)
                sum += static_cast<double>(
                           taps[static_cast<std::size_t>(head * kTaps + tap)]) *
                       v[from][at];
            }
            output[static_cast<std::size_t>((batch * kTokens + row) * kWidth +
                                            head * kHeadSize + at)] = sum;
          }
      }
    }
  }
  return output;
}

std::vector<double> doubles(const Numbers &numbers) {
  return {numbers.begin(), numbers.end()};
}

std::vector<double> projected(const Numbers &rows, const Numbers &weight,
                              const Numbers &bias) {
  std::vector<double> output(rows.size());
  for (int64_t row = 0; row < kBatch * kTokens; ++row) {
    for (int64_t out = 0; out < kWidth; ++out) {
      double sum =
          bias.empty()
              ? 0.0
              : static_cast<double>(bias[static_cast<std::size_t>(out)]);
      for (int64_t in = 0; in < kWidth; ++in)
        sum += static_cast<double>(
                   rows[static_cast<std::size_t>(row * kWidth + in)]) *
               static_cast<double>(
                   weight[static_cast<std::size_t>(out * kWidth + in)]);
      output[static_cast<std::size_t>(row * kWidth + out)] = sum;
    }
  }
  return output;
}

// Numbers whose products and sums are exact: halves. No sign of a projection is
// in doubt then.
Numbers halves(Numbers numbers) {
  for (float &number : numbers)
    number = std::round(number * 2) / 2;
  return numbers;
}

// Values of all keys that have the row's code, hash by hash, divided by their
// norm.
std::vector<double> sampled_attention(const Numbers &query, const Numbers &key,
                                      const Numbers &value,
                                      const Numbers &projection,
                                      const std::vector<int32_t> &mask) {
  const auto code = [&](const Numbers &rows, int64_t row, int64_t head,
                        int64_t hash) {
    int64_t found = 0;
    for (int64_t t = 0; t < kCodeLength; ++t) {
      double sum = 0;
      for (int64_t at = 0; at < kHeadSize; ++at)
        sum +=
            static_cast<double>(rows[static_cast<std::size_t>(
                row * kWidth + head * kHeadSize + at)]) *
            static_cast<double>(projection[static_cast<std::size_t>(
                ((head * kHeadSize + at) * kHashes + hash) * kCodeLength + t)]);
      found |= static_cast<int64_t>(sum > 0) << t;
    }
    return found;
  };
  std::vector<double> output(query.size(), 0.0);
  for (int64_t head = 0; head < kHeads; ++head)
    for (int64_t row = 0; row < kBatch * kTokens; ++row) {
      if (mask[static_cast<std::size_t>(row)] == 0)
        continue;
      double *const sum =
          &output[static_cast<std::size_t>(row * kWidth + head * kHeadSize)];
      for (int64_t hash = 0; hash < kHashes; ++hash) {
        const int64_t own = code(query, row, head, hash),
                      first = row / kTokens * kTokens;
        for (int64_t other = first; other < first + kTokens; ++other)
          if (mask[static_cast<std::size_t>(other)] != 0 &&
              code(key, other, head, hash) == own)
            for (int64_t at = 0; at < kHeadSize; ++at)
              sum[at] += value[static_cast<std::size_t>(other * kWidth +
                                                        head * kHeadSize + at)];
      }
      double squares = 0;
      for (int64_t at = 0; at < kHeadSize; ++at)
        squares += sum[at] * sum[at];
      for (int64_t at = 0; at < kHeadSize; ++at)
        sum[at] /= std::max(std::sqrt(squares), 1e-12);
    }
  return output;
}

// One call through every step that comes before it, on poisoned output and
// workspace.
Numbers run(const Driver &driver, IPluginCreatorV3One &creator,
            const Fields &fields, const std::vector<Input> &inputs,
            const std::vector<const void *> &data) {
  const Letters sizes = {{'B', kBatch},    {'N', kTokens},
                         {'E', kWidth},    {'H', kHeads},
                         {'K', kTaps},     {'h', kHeads},
                         {'d', kHeadSize}, {'p', kHashes * kCodeLength}};
  const PluginFieldCollection collection = fields.collection();
  const Made made(
      creator.createPlugin("on the GPU", &collection, TensorRTPhase::kRUNTIME));
  EXPECT(made.plugin);
  const auto descs = descs_of(inputs, sizes, DataType::kFLOAT);
  const PluginTensorDesc output_desc = output_of(sizes, DataType::kFLOAT);
  std::vector<DynamicPluginTensorDesc> profile;
  for (const PluginTensorDesc &desc : descs)
    profile.push_back({desc, desc.dims, desc.dims, desc.dims});
  const DynamicPluginTensorDesc output_profile{
      output_desc, output_desc.dims, output_desc.dims, output_desc.dims};
  const auto count = static_cast<int32_t>(inputs.size());
  const std::size_t workspace_bytes =
      made.build->getWorkspaceSize(profile.data(), count, &output_profile, 1);
  EXPECT(made.runtime->onShapeChange(descs.data(), count, &output_desc, 1) ==
         0);

  std::deque<Buffer> buffers;
  std::vector<const void *> pointers;
  for (std::size_t at = 0; at < inputs.size(); ++at) {
    std::size_t elements = 1;
    for (int32_t dim = 0; dim < descs[at].dims.nbDims; ++dim)
      elements *= static_cast<std::size_t>(descs[at].dims.d[dim]);
    pointers.push_back(
        buffers.emplace_back(driver, data[at], 4 * elements).pointer());
  }
  const std::vector<char> poison(
      std::max(workspace_bytes, sizeof(float) * kBatch * kTokens * kWidth),
      '\xff');
  Numbers output(kBatch * kTokens * kWidth);
  const Buffer workspace(driver, poison.data(), workspace_bytes);
  const Buffer result(driver, poison.data(), sizeof(float) * output.size());
  void *results[] = {result.pointer()};
  void *stream = driver.stream();
  EXPECT(made.runtime->enqueue(descs.data(), &output_desc, pointers.data(),
                               results, workspace.pointer(),
                               static_cast<cudaStream_t>(stream)) == 0);
  driver.wait(stream);
  driver.download(output.data(), result.address(),
                  sizeof(float) * output.size());
  return output;
}

// An op writes the rows of tokens of some kinds, and zeros elsewhere.
void expect_close(const char *op, const Numbers &got,
                  const std::vector<double> &expected,
                  const std::vector<int32_t> &mask,
                  const std::vector<int32_t> &kinds) {
  double worst = 0;
  for (std::size_t at = 0; at < got.size(); ++at) {
    EXPECT(std::isfinite(got[at]));
    const int32_t kind = mask[at / static_cast<std::size_t>(kWidth)];
    const bool written =
        std::find(kinds.begin(), kinds.end(), kind) != kinds.end();
    if (!written)
      EXPECT(got[at] == 0.0F);
    if (written)
      worst = std::max(worst,
                       std::abs(static_cast<double>(got[at]) - expected[at]));
  }
  std::printf("lat::%s on the GPU: largest error %.2e\n", op, worst);
  EXPECT(worst < kTolerance);
}

} // namespace

void gpu_step(const Creators &creators) {
  const Driver driver;
  if (!driver.found()) {
    std::printf("no GPU here: no plugin was run on one\n");
    return;
  }
  const std::size_t elements = kBatch * kTokens * kWidth;
  const Numbers query = random_numbers(elements, 1, 1),
                key = random_numbers(elements, 2, 1);
  const Numbers value = random_numbers(elements, 3, 1);
  const std::vector<int32_t> mask = token_mask();
  const Numbers banded =
      run(driver, *creators.at("BandedWindowAttention"),
          Fields()
              .add("num_heads", static_cast<int32_t>(kHeads))
              .add("window", static_cast<int32_t>(kWindow))
              .add("scale", kScale),
          {{"query", "BNE"},
           {"key", "BNE"},
           {"value", "BNE"},
           {"attention_mask", "BN", true}},
          {query.data(), key.data(), value.data(), mask.data()});
  expect_close(
      "BandedWindowAttention", banded,
      definition(doubles(query), doubles(key), doubles(value), mask, true),
      mask, {1});

  const float spread = 1 / std::sqrt(static_cast<float>(kWidth));
  const Numbers query_weight = random_numbers(kWidth * kWidth, 4, spread),
                query_bias = random_numbers(kWidth, 5, 0.1F);
  const Numbers key_weight = random_numbers(kWidth * kWidth, 6, spread);
  const Numbers value_weight = random_numbers(kWidth * kWidth, 7, spread),
                value_bias = random_numbers(kWidth, 8, 0.1F);
  const Numbers global =
      run(driver, *creators.at("GlobalTokenAttention"),
          Fields()
              .add("num_heads", static_cast<int32_t>(kHeads))
              .add("scale", kScale),
          {{"hidden_states", "BNE"},
           {"attention_mask", "BN", true},
           {"query_weight", "EE"},
           {"query_bias", "E"},
           {"key_weight", "EE"},
           {"value_weight", "EE"},
           {"value_bias", "E"}},
          {query.data(), mask.data(), query_weight.data(), query_bias.data(),
           key_weight.data(), value_weight.data(), value_bias.data()});
  expect_close("GlobalTokenAttention", global,
               definition(projected(query, query_weight, query_bias),
                          projected(query, key_weight, {}),
                          projected(query, value_weight, value_bias), mask,
                          false),
               mask, {2});

  const std::vector<Input> inputs = {{"query", "BNE"},
                                     {"key", "BNE"},
                                     {"value", "BNE"},
                                     {"attention_mask", "BN", true}};
  const Numbers rates =
      run(driver, *creators.at("BernoulliExpectation"),
          Fields()
              .add("num_heads", static_cast<int32_t>(kHeads))
              .add("hash_code_len", static_cast<int32_t>(kBits)),
          inputs, {query.data(), key.data(), value.data(), mask.data()});
  expect_close("BernoulliExpectation", rates,
               collisions(doubles(query), doubles(key), doubles(value), mask),
               mask, {1, 2});

  const Numbers taps = random_numbers(kHeads * kTaps, 9, 0.3F);
  std::vector<Input> with_taps = inputs;
  with_taps.push_back({"conv_weight", "HK"});
  const Numbers all =
      run(driver, *creators.at("FullAttention"),
          Fields().add("num_heads", static_cast<int32_t>(kHeads)), with_taps,
          {query.data(), key.data(), value.data(), mask.data(), taps.data()});
  expect_close("FullAttention", all,
               full(doubles(query), doubles(key), doubles(value), mask, taps),
               mask, {0, 1, 2});

  const Numbers of_query = halves(query), of_key = halves(key);
  const Numbers projection =
      halves(random_numbers(kWidth * kHashes * kCodeLength, 9, 1));
  const std::vector<int32_t> kept = [&] {
    std::vector<int32_t> all = mask;
    for (int32_t &kind : all)
      kind = kind != 0;
    return all;
  }();
  const Numbers sampled =
      run(driver, *creators.at("LshCumulation"),
          Fields()
              .add("num_heads", static_cast<int32_t>(kHeads))
              .add("num_hash", static_cast<int32_t>(kHashes))
              .add("hash_code_len", static_cast<int32_t>(kCodeLength)),
          {{"query", "BNE"},
           {"key", "BNE"},
           {"value", "BNE"},
           {"attention_mask", "BN", true},
           {"projection", "hdp"}},
          {of_query.data(), of_key.data(), value.data(), kept.data(),
           projection.data()});
  expect_close("LshCumulation", sampled,
               sampled_attention(of_query, of_key, value, projection, kept),
               kept, {1});

  const Numbers nystrom =
      run(driver, *creators.at("NystromAttention"),
          Fields()
              .add("num_heads", static_cast<int32_t>(kHeads))
              .add("num_landmarks", static_cast<int32_t>(kLandmarks))
              .add("per_head_init", 0),
          {{"query", "BNE"},
           {"key", "BNE"},
           {"value", "BNE"},
           {"attention_mask", "BN", true},
           {"conv_weight", "HK"}},
          {query.data(), key.data(), value.data(), mask.data(), taps.data()});
  // Every row is written, those of padding too.
  expect_close("NystromAttention", nystrom,
               nystrom_definition(query, key, value, mask, taps), mask,
               {0, 1, 2});
}

} // namespace playing
