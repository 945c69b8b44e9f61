// An engine in TensorRT's runtime, 10 or 11: the calls that both have. TensorRT is not linked: libnvinfer.so of the
// headers' major version is opened at run time, so that this compiles where only the headers are.
//
// Never run with TensorRT or on a GPU so far: compiled with the headers of 10.13 and 11.1, and run against a TensorRT
// that the host plays (tests/native/lat_run_host of lat-export).
#include <NvInferRuntime.h>
#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <cstdio>
#include <fstream>

#include "error.h"
#include "subject.h"

namespace lat_run {
namespace {

class Logger final : public nvinfer1::ILogger {
 public:
  void log(Severity severity, const char* text) noexcept override {
    if (severity > Severity::kWARNING) return;
    std::fprintf(stderr, "%s: %s\n", severity == Severity::kWARNING ? "warning" : "error", text);
    if (severity != Severity::kWARNING) last_error_ = text;
  }
  // What TensorRT said of its last refusal.
  std::string last_error() const { return last_error_.empty() ? "TensorRT gave no reason" : last_error_; }

 private:
  std::string last_error_;
};

void demand(cudaError_t status, const char* what) {
  if (status != cudaSuccess) throw RunError(std::string(what) + ": " + cudaGetErrorString(status));
}

class DeviceBuffer {
 public:
  explicit DeviceBuffer(std::size_t bytes) {
    demand(cudaMalloc(&address_, bytes == 0 ? 1 : bytes), "memory on the GPU");  // TensorRT wants an address of each
  }
  ~DeviceBuffer() { cudaFree(address_); }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;

  void* address() const { return address_; }

 private:
  void* address_ = nullptr;
};

class Stream {
 public:
  Stream() { demand(cudaStreamCreate(&stream_), "a stream on the GPU"); }
  ~Stream() { cudaStreamDestroy(stream_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

// As `nvinfer1::createInferRuntime`, without linking it.
nvinfer1::IRuntime* open_runtime(Logger& logger) {
  const std::string name = "libnvinfer.so." + std::to_string(NV_TENSORRT_MAJOR);
  void* library = dlopen(name.c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (library == nullptr)
    throw Error(std::string(dlerror()) + "\nhint: LD_LIBRARY_PATH must name the folder of " + name, kMissing);
  auto create = reinterpret_cast<void* (*)(void*, std::int32_t)>(dlsym(library, "createInferRuntime_INTERNAL"));
  if (create == nullptr) throw Error(name + " has no createInferRuntime_INTERNAL", kMissing);
  auto* runtime = static_cast<nvinfer1::IRuntime*>(create(&logger, NV_TENSORRT_VERSION));
  if (runtime == nullptr) throw Error("TensorRT's runtime does not start: " + logger.last_error(), kMissing);
  return runtime;
}

std::string version_of_tensorrt() {
  auto version = reinterpret_cast<std::int32_t (*)()>(dlsym(RTLD_DEFAULT, "getInferLibVersion"));
  if (version == nullptr) return "of an unknown version";
  // From 10 on 10000 major + 100 minor + patch.
  const std::int32_t number = version();
  return std::to_string(number / 10000) + "." + std::to_string(number / 100 % 100) + "." + std::to_string(number % 100);
}

DType dtype_of(nvinfer1::DataType dtype, const std::string& name) {
  switch (dtype) {
    case nvinfer1::DataType::kFLOAT:
      return DType::kFloat32;
    case nvinfer1::DataType::kHALF:
      return DType::kFloat16;
    case nvinfer1::DataType::kBF16:
      return DType::kBFloat16;
    case nvinfer1::DataType::kINT32:
      return DType::kInt32;
    case nvinfer1::DataType::kINT64:
      return DType::kInt64;
    default:
      throw Error(name + ": an element type that lat_run does not read");
  }
}

nvinfer1::Dims dims_of(const Shape& shape) {
  nvinfer1::Dims dims{};
  if (shape.size() > static_cast<std::size_t>(nvinfer1::Dims::MAX_DIMS))
    throw RunError("more dimensions than TensorRT has: " + text_of(shape));
  dims.nbDims = static_cast<std::int32_t>(shape.size());
  for (std::size_t at = 0; at < shape.size(); ++at) dims.d[at] = shape[at];
  return dims;
}

Shape shape_of(const nvinfer1::Dims& dims) {
  if (dims.nbDims < 0) return {};
  return {dims.d, dims.d + dims.nbDims};
}

class Engine final : public Subject {
 public:
  Engine(const std::string& path, const std::vector<std::string>& plugins) : path_(path) {
    int gpus = 0;
    if (const cudaError_t status = cudaGetDeviceCount(&gpus); status != cudaSuccess || gpus == 0)
      throw Error(std::string("no GPU that CUDA can use: ") + cudaGetErrorString(status), kMissing);
    runtime_.reset(open_runtime(logger_));
    for (const std::string& plugin : plugins)
      if (runtime_->getPluginRegistry().loadLibrary(plugin.c_str()) == nullptr)
        throw Error("TensorRT does not load the plugin library " + plugin + ": " + logger_.last_error(), kMissing);
    const std::vector<char> plan = bytes_of_file(path);
    engine_.reset(runtime_->deserializeCudaEngine(plan.data(), plan.size()));
    if (!engine_) throw Error("TensorRT does not take the engine " + path + ": " + logger_.last_error());
    context_.reset(engine_->createExecutionContext());
    if (!context_) throw Error("no execution context: " + logger_.last_error(), kMissing);
  }

  std::string title() const override {
    cudaDeviceProp properties{};
    const bool known = cudaGetDeviceProperties(&properties, 0) == cudaSuccess;
    return path_ + " in TensorRT " + version_of_tensorrt() + " on " + (known ? properties.name : "an unknown GPU");
  }

  Arrays run(const Case&, const Arrays& inputs) override {
    std::map<std::string, DeviceBuffer> buffers;
    const Stream stream;
    for (std::int32_t at = 0; at < engine_->getNbIOTensors(); ++at)
      if (const char* name = engine_->getIOTensorName(at); is_input(name)) give(name, inputs, buffers, stream);
    for (std::int32_t at = 0; at < engine_->getNbIOTensors(); ++at) {
      const char* name = engine_->getIOTensorName(at);
      if (is_input(name)) continue;
      const std::int64_t most = context_->getMaxOutputSize(name);
      if (most < 0) throw RunError(std::string(name) + ": no upper bound of its size: " + logger_.last_error());
      bind(name, buffers
                     .emplace(std::piecewise_construct, std::forward_as_tuple(name),
                              std::forward_as_tuple(static_cast<std::size_t>(most)))
                     .first->second);
    }
    if (!context_->enqueueV3(stream.get())) throw RunError("TensorRT did not run it: " + logger_.last_error());
    demand(cudaStreamSynchronize(stream.get()), "the run");
    return taken_from(buffers);
  }

 private:
  static std::vector<char> bytes_of_file(const std::string& path) {
    std::ifstream stream(path, std::ios::binary);
    if (!stream) throw Error("cannot be read: " + path);
    return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
  }

  bool is_input(const char* name) const { return engine_->getTensorIOMode(name) == nvinfer1::TensorIOMode::kINPUT; }

  void bind(const char* name, const DeviceBuffer& buffer) {
    if (!context_->setTensorAddress(name, buffer.address())) throw RunError(logger_.last_error());
  }

  void give(const char* name, const Arrays& inputs, std::map<std::string, DeviceBuffer>& buffers,
            const Stream& stream) {
    const auto given = inputs.find(name);
    if (given == inputs.end()) throw RunError(std::string("the engine wants an input that the kit has not: ") + name);
    const Array& array = given->second;
    if (const DType dtype = dtype_of(engine_->getTensorDataType(name), name); dtype != array.dtype)
      throw RunError(std::string(name) + ": the engine takes " + name_of(dtype) + ", the golden has " +
                     name_of(array.dtype));
    if (!context_->setInputShape(name, dims_of(array.shape)))
      throw RunError(std::string(name) + " of " + text_of(array.shape) + " is not within the engine's profile");
    const DeviceBuffer& buffer =
        buffers
            .emplace(std::piecewise_construct, std::forward_as_tuple(name), std::forward_as_tuple(array.bytes.size()))
            .first->second;
    demand(
        cudaMemcpyAsync(buffer.address(), array.bytes.data(), array.bytes.size(), cudaMemcpyHostToDevice, stream.get()),
        name);
    bind(name, buffer);
  }

  Arrays taken_from(const std::map<std::string, DeviceBuffer>& buffers) const {
    Arrays found;
    for (const auto& [name, buffer] : buffers) {
      if (is_input(name.c_str())) continue;
      Array array{dtype_of(engine_->getTensorDataType(name.c_str()), name),
                  shape_of(context_->getTensorShape(name.c_str())),
                  {}};
      array.bytes.resize(count_of(array.shape) * lat_run::bytes_of(array.dtype));
      demand(cudaMemcpy(array.bytes.data(), buffer.address(), array.bytes.size(), cudaMemcpyDeviceToHost),
             name.c_str());
      found.emplace(name, std::move(array));
    }
    return found;
  }

  std::string path_;
  // In this order: each is of the one before it, and goes first.
  Logger logger_;
  std::unique_ptr<nvinfer1::IRuntime> runtime_;
  std::unique_ptr<nvinfer1::ICudaEngine> engine_;
  std::unique_ptr<nvinfer1::IExecutionContext> context_;
};

}  // namespace

std::unique_ptr<Subject> open_engine(const std::string& engine, const std::vector<std::string>& plugins) {
  return std::make_unique<Engine>(engine, plugins);
}

}  // namespace lat_run
