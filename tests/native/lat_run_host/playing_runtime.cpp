// Plays libnvinfer.so to lat_run. An "engine" is a text of words that say what it does:
//
//     malformed          is no engine                    no-context   gives no execution context
//     wants NAME         takes an input NAME too         int32        takes input_ids as int32
//     at-most N          has a profile up to N tokens    refuses      does not run
//     unbounded          knows no size of its output     half         gives float16
//     wrong | nan        computes something else         longer       gives one number more in a row
//
// It computes logits [B,N] float32 = input_ids [B,N] int64 / 2. Calls out of order end the process.
#include <NvInferRuntime.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "runtime_stubs.h"

namespace {

using namespace nvinfer1;

[[noreturn]] void out_of_order(const std::string& what) {
  std::fprintf(stderr, "out of order: %s\n", what.c_str());
  std::abort();
}

ILogger* logger = nullptr;
std::vector<std::string> loaded;

void log_error(const std::string& text) { logger->log(ILogger::Severity::kERROR, text.c_str()); }

struct Behaviour {
  std::set<std::string> words;
  std::string wants;
  int64_t at_most = 64;

  bool is(const char* word) const { return words.count(word) != 0; }
};

class Registry final : public RegistryStub {
 public:
  PluginLibraryHandle loadLibrary(AsciiChar const* path) noexcept override {
    if (std::strstr(path, "absent") != nullptr) {
      log_error(std::string("cannot open ") + path);
      return nullptr;
    }
    loaded.emplace_back(path);
    logger->log(ILogger::Severity::kWARNING, (std::string("loaded ") + path).c_str());
    return this;
  }
};

class Context final : public IExecutionContext, ContextStub {
 public:
  explicit Context(const Behaviour& behaviour) : behaviour_(behaviour) { mImpl = this; }

  bool setInputShape(char const* name, Dims const& dims) noexcept override {
    if (dims.nbDims != 2 || dims.d[1] > behaviour_.at_most) {
      log_error("input shape outside of the profile");
      return false;
    }
    shapes_[name] = dims;
    return true;
  }

  bool setTensorAddress(char const* name, void* data) noexcept override {
    if (data == nullptr) out_of_order("a null address");
    addresses_[name] = data;
    return true;
  }

  int64_t getMaxOutputSize(char const*) const noexcept override {
    if (shapes_.count("input_ids") == 0) out_of_order("a size before the shapes");
    return behaviour_.is("unbounded") ? -1 : 4 * count(output());
  }

  Dims getTensorShape(char const* name) const noexcept override {
    return std::string(name) == "logits" ? output() : shapes_.at(name);
  }

  bool enqueueV3(cudaStream_t stream) noexcept override {
    if (stream == nullptr) out_of_order("no stream");
    if (addresses_.count("input_ids") == 0 || addresses_.count("logits") == 0) out_of_order("a run without addresses");
    if (behaviour_.is("refuses")) {
      log_error("a tactic failed");
      return false;
    }
    const auto* ids = static_cast<const int64_t*>(addresses_.at("input_ids"));
    const Dims in = shapes_.at("input_ids"), out = output();
    for (int64_t row = 0; row < out.d[0]; ++row)
      for (int64_t at = 0; at < out.d[1]; ++at) {
        const int64_t id = at < in.d[1] ? ids[row * in.d[1] + at] : 0;
        put(row * out.d[1] + at, static_cast<float>(id) * (behaviour_.is("wrong") ? 0.51F : 0.5F));
      }
    if (behaviour_.is("nan")) put(0, std::numeric_limits<float>::quiet_NaN());
    return true;
  }

 private:
  static int64_t count(const Dims& dims) { return dims.d[0] * dims.d[1]; }

  Dims output() const {
    Dims dims = shapes_.at("input_ids");
    if (behaviour_.is("longer")) ++dims.d[1];
    return dims;
  }

  // Halves of small whole numbers have 10 bits of a float16 to spare.
  void put(int64_t at, float value) {
    if (!behaviour_.is("half")) {
      static_cast<float*>(addresses_.at("logits"))[at] = value;
      return;
    }
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    const uint32_t exponent = bits >> 23 & 255;
    const auto half = static_cast<uint16_t>(value == 0 ? 0 : (exponent - 112) << 10 | (bits >> 13 & 1023));
    static_cast<uint16_t*>(addresses_.at("logits"))[at] = half;
  }

  Behaviour behaviour_;
  std::map<std::string, Dims> shapes_;
  std::map<std::string, void*> addresses_;
};

class Engine final : public ICudaEngine, EngineStub {
 public:
  explicit Engine(const Behaviour& behaviour) : behaviour_(behaviour), names_{"input_ids", "logits"} {
    mImpl = this;
    if (!behaviour.wants.empty()) names_.push_back(behaviour.wants);
  }

  int32_t getNbIOTensors() const noexcept override { return static_cast<int32_t>(names_.size()); }
  char const* getIOTensorName(int32_t index) const noexcept override {
    return names_.at(static_cast<std::size_t>(index)).c_str();
  }
  TensorIOMode getTensorIOMode(char const* name) const noexcept override {
    return std::string(name) == "logits" ? TensorIOMode::kOUTPUT : TensorIOMode::kINPUT;
  }
  DataType getTensorDataType(char const* name) const noexcept override {
    if (std::string(name) == "logits") return behaviour_.is("half") ? DataType::kHALF : DataType::kFLOAT;
    return behaviour_.is("int32") ? DataType::kINT32 : DataType::kINT64;
  }
  IExecutionContext* createExecutionContext(ExecutionContextAllocationStrategy) noexcept override {
    if (behaviour_.is("no-context")) {
      log_error("out of memory");
      return nullptr;
    }
    return new Context(behaviour_);
  }

 private:
  Behaviour behaviour_;
  std::vector<std::string> names_;
};

class Runtime final : public IRuntime, RuntimeStub {
 public:
  Runtime() { mImpl = this; }

  IPluginRegistry& getPluginRegistry() noexcept override { return registry_; }

  ICudaEngine* deserializeCudaEngine(void const* blob, std::size_t size) noexcept override {
    std::istringstream text(std::string(static_cast<const char*>(blob), size));
    Behaviour behaviour;
    for (std::string word; text >> word;) {
      if (word == "wants")
        text >> behaviour.wants;
      else if (word == "at-most")
        text >> behaviour.at_most;
      else
        behaviour.words.insert(word);
    }
    if (behaviour.is("malformed")) {
      log_error("magic tag does not match");
      return nullptr;
    }
    if (behaviour.is("needs-plugin") && loaded.empty()) {
      log_error("could not find plugin BandedWindowAttention");
      return nullptr;
    }
    return new Engine(behaviour);
  }

 private:
  Registry registry_;
};

}  // namespace

extern "C" void* createInferRuntime_INTERNAL(void* given, int32_t version) noexcept {
  if (version != NV_TENSORRT_VERSION) out_of_order("another version than that of the headers");
  logger = static_cast<ILogger*>(given);
  return new Runtime();
}

extern "C" int32_t getInferLibVersion() noexcept { return NV_TENSORRT_VERSION; }
