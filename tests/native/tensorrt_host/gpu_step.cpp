// Enqueue on a GPU, with the real kernels: outputs against the definition in double. The driver is asked for at run
// time, so that this builds and runs, without this step, where there is none.
#include <dlfcn.h>

#include <algorithm>
#include <cmath>

#include "definitions.h"
#include "host.h"

namespace playing {
namespace {

// float32 sums of 100 terms near 1.
constexpr double kTolerance = 1e-4;
// Operands of 10 bits, off by 2^-11 of themselves at most: scores of 32 products near 1, times kScale, are off by 1e-3
// in the root mean square, and outputs by a few times that.
constexpr double kTf32Tolerance = 1e-2;

// CUDA's driver, as much of it as this needs.
class Driver {
 public:
  Driver() {
    void* library = dlopen("libcuda.so.1", RTLD_NOW);
    if (library == nullptr) return;
    const auto find = [&](auto& function, const char* name) {
      function = reinterpret_cast<std::decay_t<decltype(function)>>(dlsym(library, name));
      return function != nullptr;
    };
    int (*initialise)(unsigned) = nullptr;
    int (*count)(int*) = nullptr;
    int (*retain)(void**, int) = nullptr;
    int (*make_current)(void*) = nullptr;
    int gpus = 0;
    if (!find(initialise, "cuInit") || !find(count, "cuDeviceGetCount") || !find(retain, "cuDevicePrimaryCtxRetain") ||
        !find(make_current, "cuCtxSetCurrent") || !find(allocate_, "cuMemAlloc_v2") || !find(free_, "cuMemFree_v2") ||
        !find(upload_, "cuMemcpyHtoD_v2") || !find(download_, "cuMemcpyDtoH_v2") ||
        !find(make_stream_, "cuStreamCreate") || !find(wait_, "cuStreamSynchronize"))
      return;
    if (initialise(0) != 0 || count(&gpus) != 0 || gpus == 0) return;
    // The context that the CUDA runtime in the library uses too.
    void* context = nullptr;
    EXPECT(retain(&context, 0) == 0 && make_current(context) == 0);
    found_ = true;
  }
  bool found() const { return found_; }

  void* stream() const {
    void* stream = nullptr;
    EXPECT(make_stream_(&stream, 0) == 0);
    return stream;
  }
  void wait(void* stream) const { EXPECT(wait_(stream) == 0); }
  unsigned long long allocate(std::size_t bytes) const {
    unsigned long long address = 0;
    EXPECT(allocate_(&address, bytes) == 0);
    return address;
  }
  void release(unsigned long long address) const { EXPECT(free_(address) == 0); }
  void upload(unsigned long long to, const void* from, std::size_t bytes) const {
    EXPECT(upload_(to, from, bytes) == 0);
  }
  void download(void* to, unsigned long long from, std::size_t bytes) const { EXPECT(download_(to, from, bytes) == 0); }

 private:
  bool found_ = false;
  int (*allocate_)(unsigned long long*, std::size_t) = nullptr;
  int (*free_)(unsigned long long) = nullptr;
  int (*upload_)(unsigned long long, const void*, std::size_t) = nullptr;
  int (*download_)(void*, unsigned long long, std::size_t) = nullptr;
  int (*make_stream_)(void**, unsigned) = nullptr;
  int (*wait_)(void*) = nullptr;
};

class Buffer {
 public:
  Buffer(const Driver& driver, std::size_t bytes) : driver_(driver), address_(driver.allocate(bytes)) {}
  Buffer(const Driver& driver, const void* from, std::size_t bytes) : Buffer(driver, bytes) {
    driver.upload(address_, from, bytes);
  }
  ~Buffer() { driver_.release(address_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  unsigned long long address() const { return address_; }
  void* pointer() const { return reinterpret_cast<void*>(address_); }

 private:
  const Driver& driver_;
  unsigned long long address_;
};

// One call through every step that comes before it, on poisoned output and workspace.
Numbers run(const Driver& driver, IPluginCreatorV3One& creator, const Fields& fields, const std::vector<Input>& inputs,
            const std::vector<const void*>& data) {
  const Letters sizes = {{'B', kBatch}, {'N', kTokens}, {'E', kWidth},    {'H', kHeads},
                         {'K', kTaps},  {'h', kHeads},  {'d', kHeadSize}, {'p', kHashes * kCodeLength}};
  const PluginFieldCollection collection = fields.collection();
  const Made made(creator.createPlugin("on the GPU", &collection, TensorRTPhase::kRUNTIME));
  EXPECT(made.plugin);
  const auto descs = descs_of(inputs, sizes, DataType::kFLOAT);
  const PluginTensorDesc output_desc = output_of(sizes, DataType::kFLOAT);
  std::vector<DynamicPluginTensorDesc> profile;
  for (const PluginTensorDesc& desc : descs) profile.push_back({desc, desc.dims, desc.dims, desc.dims});
  const DynamicPluginTensorDesc output_profile{output_desc, output_desc.dims, output_desc.dims, output_desc.dims};
  const auto count = static_cast<int32_t>(inputs.size());
  const std::size_t workspace_bytes = made.build->getWorkspaceSize(profile.data(), count, &output_profile, 1);
  EXPECT(made.runtime->onShapeChange(descs.data(), count, &output_desc, 1) == 0);

  std::deque<Buffer> buffers;
  std::vector<const void*> pointers;
  for (std::size_t at = 0; at < inputs.size(); ++at) {
    std::size_t elements = 1;
    for (int32_t dim = 0; dim < descs[at].dims.nbDims; ++dim)
      elements *= static_cast<std::size_t>(descs[at].dims.d[dim]);
    pointers.push_back(buffers.emplace_back(driver, data[at], 4 * elements).pointer());
  }
  const std::vector<char> poison(std::max(workspace_bytes, sizeof(float) * kBatch * kTokens * kWidth), '\xff');
  Numbers output(kBatch * kTokens * kWidth);
  const Buffer workspace(driver, poison.data(), workspace_bytes);
  const Buffer result(driver, poison.data(), sizeof(float) * output.size());
  void* results[] = {result.pointer()};
  void* stream = driver.stream();
  EXPECT(made.runtime->enqueue(descs.data(), &output_desc, pointers.data(), results, workspace.pointer(),
                               static_cast<cudaStream_t>(stream)) == 0);
  driver.wait(stream);
  driver.download(output.data(), result.address(), sizeof(float) * output.size());
  return output;
}

// An op writes the rows of tokens of some kinds, and zeros elsewhere.
void expect_close(const char* op, const Numbers& got, const std::vector<double>& expected,
                  const std::vector<int32_t>& mask, const std::vector<int32_t>& kinds, double tolerance = kTolerance) {
  double worst = 0;
  for (std::size_t at = 0; at < got.size(); ++at) {
    EXPECT(std::isfinite(got[at]));
    const int32_t kind = mask[at / static_cast<std::size_t>(kWidth)];
    const bool written = std::find(kinds.begin(), kinds.end(), kind) != kinds.end();
    if (!written) EXPECT(got[at] == 0.0F);
    if (written) worst = std::max(worst, std::abs(static_cast<double>(got[at]) - expected[at]));
  }
  std::printf("lat::%s on the GPU: largest error %.2e\n", op, worst);
  EXPECT(worst < tolerance);
}

}  // namespace

void gpu_step(const Creators& creators) {
  const Driver driver;
  if (!driver.found()) {
    std::printf("no GPU here: no plugin was run on one\n");
    return;
  }
  const std::size_t elements = kBatch * kTokens * kWidth;
  const Numbers query = random_numbers(elements, 1, 1), key = random_numbers(elements, 2, 1);
  const Numbers value = random_numbers(elements, 3, 1);
  const std::vector<int32_t> mask = token_mask();
  for (const int32_t allow_tf32 : {0, 1}) {
    const Numbers banded = run(driver, *creators.at("BandedWindowAttention"),
                               Fields()
                                   .add("num_heads", static_cast<int32_t>(kHeads))
                                   .add("window", static_cast<int32_t>(kWindow))
                                   .add("scale", kScale)
                                   .add("allow_tf32", allow_tf32),
                               {{"query", "BNE"}, {"key", "BNE"}, {"value", "BNE"}, {"attention_mask", "BN", true}},
                               {query.data(), key.data(), value.data(), mask.data()});
    expect_close(allow_tf32 != 0 ? "BandedWindowAttention in TF32" : "BandedWindowAttention", banded,
                 definition(doubles(query), doubles(key), doubles(value), mask, true), mask, {1},
                 allow_tf32 != 0 ? kTf32Tolerance : kTolerance);
  }

  const float spread = 1 / std::sqrt(static_cast<float>(kWidth));
  const Numbers query_weight = random_numbers(kWidth * kWidth, 4, spread), query_bias = random_numbers(kWidth, 5, 0.1F);
  const Numbers key_weight = random_numbers(kWidth * kWidth, 6, spread);
  const Numbers value_weight = random_numbers(kWidth * kWidth, 7, spread), value_bias = random_numbers(kWidth, 8, 0.1F);
  const Numbers global = run(driver, *creators.at("GlobalTokenAttention"),
                             Fields().add("num_heads", static_cast<int32_t>(kHeads)).add("scale", kScale),
                             {{"hidden_states", "BNE"},
                              {"attention_mask", "BN", true},
                              {"query_weight", "EE"},
                              {"query_bias", "E"},
                              {"key_weight", "EE"},
                              {"value_weight", "EE"},
                              {"value_bias", "E"}},
                             {query.data(), mask.data(), query_weight.data(), query_bias.data(), key_weight.data(),
                              value_weight.data(), value_bias.data()});
  expect_close("GlobalTokenAttention", global,
               definition(projected(query, query_weight, query_bias), projected(query, key_weight, {}),
                          projected(query, value_weight, value_bias), mask, false),
               mask, {2});

  const std::vector<Input> inputs = {
      {"query", "BNE"}, {"key", "BNE"}, {"value", "BNE"}, {"attention_mask", "BN", true}};
  const Numbers rates =
      run(driver, *creators.at("BernoulliExpectation"),
          Fields().add("num_heads", static_cast<int32_t>(kHeads)).add("hash_code_len", static_cast<int32_t>(kBits)),
          inputs, {query.data(), key.data(), value.data(), mask.data()});
  expect_close("BernoulliExpectation", rates, collisions(doubles(query), doubles(key), doubles(value), mask), mask,
               {1, 2});

  const Numbers taps = random_numbers(kHeads * kTaps, 9, 0.3F);
  std::vector<Input> with_taps = inputs;
  with_taps.push_back({"conv_weight", "HK"});
  const Numbers all =
      run(driver, *creators.at("FullAttention"), Fields().add("num_heads", static_cast<int32_t>(kHeads)), with_taps,
          {query.data(), key.data(), value.data(), mask.data(), taps.data()});
  expect_close("FullAttention", all, full(doubles(query), doubles(key), doubles(value), mask, taps), mask, {0, 1, 2});

  const Numbers of_query = halves(query), of_key = halves(key);
  const Numbers projection = halves(random_numbers(kWidth * kHashes * kCodeLength, 9, 1));
  const std::vector<int32_t> kept = [&] {
    std::vector<int32_t> all = mask;
    for (int32_t& kind : all) kind = kind != 0;
    return all;
  }();
  const Numbers sampled =
      run(driver, *creators.at("LshCumulation"),
          Fields()
              .add("num_heads", static_cast<int32_t>(kHeads))
              .add("num_hash", static_cast<int32_t>(kHashes))
              .add("hash_code_len", static_cast<int32_t>(kCodeLength)),
          {{"query", "BNE"}, {"key", "BNE"}, {"value", "BNE"}, {"attention_mask", "BN", true}, {"projection", "hdp"}},
          {of_query.data(), of_key.data(), value.data(), kept.data(), projection.data()});
  expect_close("LshCumulation", sampled, sampled_attention(of_query, of_key, value, projection, kept), kept, {1});

  const Numbers nystrom =
      run(driver, *creators.at("NystromAttention"),
          Fields()
              .add("num_heads", static_cast<int32_t>(kHeads))
              .add("num_landmarks", static_cast<int32_t>(kLandmarks))
              .add("per_head_init", 0),
          {{"query", "BNE"}, {"key", "BNE"}, {"value", "BNE"}, {"attention_mask", "BN", true}, {"conv_weight", "HK"}},
          {query.data(), key.data(), value.data(), mask.data(), taps.data()});
  // Every row is written, those of padding too.
  expect_close("NystromAttention", nystrom, nystrom_definition(query, key, value, mask, taps), mask, {0, 1, 2});
}

}  // namespace playing
