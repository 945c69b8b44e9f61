#include "session.h"

#include <dlfcn.h>

#include <algorithm>

#include "failure.h"

namespace lat_edge {
namespace {

ONNXTensorElementDataType element_of(std::int32_t dtype) {
  switch (dtype) {
    case LAT_FLOAT32:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    case LAT_FLOAT16:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16;
    case LAT_INT64:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
  }
  throw Failure(LAT_BUG, "an element type without a name");
}

// The message is copied, and the status released.
std::string told(const OrtApi& api, OrtStatus* status) {
  std::string text = api.GetErrorMessage(status);
  api.ReleaseStatus(status);
  return text.substr(0, text.find('\n'));
}

// Released at the end of a block; onnxruntime's values are not counted.
class Values {
 public:
  Values(const OrtApi& api, std::size_t count) : api_(api), held(count, nullptr) {}
  ~Values() {
    for (OrtValue* value : held)
      if (value != nullptr) api_.ReleaseValue(value);
  }
  Values(const Values&) = delete;
  Values& operator=(const Values&) = delete;

 private:
  const OrtApi& api_;

 public:
  std::vector<OrtValue*> held;
};

}  // namespace

// It stays loaded: threads of its pool may still end when the last session is gone.
Session::Runtime Session::loaded(const std::string& library) {
  void* const handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    const char* why = dlerror();
    throw Failure(LAT_MISSING, "onnxruntime's library does not load", {why == nullptr ? library : why, "", ""});
  }
  using Base = const OrtApiBase* (*)();
  const auto base = reinterpret_cast<Base>(dlsym(handle, "OrtGetApiBase"));
  if (base == nullptr)
    throw Failure(LAT_MISSING, "a library that is not onnxruntime's", {library, "one with OrtGetApiBase", ""});
  const OrtApi* const api = base()->GetApi(ORT_API_VERSION);
  if (api == nullptr)
    throw Failure(LAT_MISSING, "onnxruntime's library is too old",
                  {base()->GetVersionString(), "1." + std::to_string(ORT_API_VERSION) + " or later", ""});
  return {*api, base()->GetVersionString()};
}

Session::Session(const Manifest& manifest, int threads, bool native_ops)
    : runtime_(loaded(manifest.path(manifest.onnxruntime))), api_(runtime_.api), outputs_(manifest.outputs) {
  try {
    open(manifest, threads, native_ops);
  } catch (...) {
    close();
    throw;
  }
}

Session::~Session() { close(); }

void Session::close() {
  if (session_ != nullptr) api_.ReleaseSession(session_);
  if (memory_ != nullptr) api_.ReleaseMemoryInfo(memory_);
  if (options_ != nullptr) api_.ReleaseSessionOptions(options_);
  if (environment_ != nullptr) api_.ReleaseEnv(environment_);
}

void Session::check(OrtStatus* status, lat_status kind, const char* what) const {
  if (status != nullptr) throw Failure(kind, what, {told(api_, status), "", ""});
}

void Session::open(const Manifest& manifest, int threads, bool native_ops) {
  const auto demand = [&](OrtStatus* status) { check(status, LAT_FAILED, "onnxruntime does not start"); };
  demand(api_.CreateEnv(ORT_LOGGING_LEVEL_ERROR, "lat_runner", &environment_));
  demand(api_.CreateSessionOptions(&options_));
  // As exporter/lat_export/onnxruntime_options.py has it, with the reasons there.
  demand(api_.SetSessionLogSeverityLevel(options_, ORT_LOGGING_LEVEL_ERROR));
  demand(api_.DisableMemPattern(options_));
  if (threads > 0) demand(api_.SetIntraOpNumThreads(options_, threads));
  if (native_ops)
    check(api_.RegisterCustomOpsLibrary_V2(options_, manifest.path(manifest.native_ops).c_str()), LAT_MISSING,
          "onnxruntime does not take the native ops");
  demand(api_.CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory_));
  check(api_.CreateSession(environment_, manifest.path(manifest.model).c_str(), options_, &session_), LAT_BAD_INPUT,
        "onnxruntime cannot load the model");
}

std::unique_ptr<Result> Session::run(const std::vector<lat_tensor>& inputs) const {
  const auto demand = [&](OrtStatus* status) { check(status, LAT_FAILED, "onnxruntime does not run the model"); };
  Values given(api_, inputs.size()), found(api_, outputs_.size());
  std::vector<const char*> input_names, output_names;
  for (std::size_t at = 0; at < inputs.size(); ++at) {
    const lat_tensor& tensor = inputs[at];
    // onnxruntime reads inputs only; its signature serves outputs, too.
    demand(api_.CreateTensorWithDataAsOrtValue(memory_, const_cast<void*>(tensor.data), tensor.bytes, tensor.dims,
                                               tensor.rank, element_of(tensor.dtype), &given.held[at]));
    input_names.push_back(tensor.name);
  }
  for (const Port& port : outputs_) output_names.push_back(port.name.c_str());
  demand(api_.Run(session_, nullptr, input_names.data(), given.held.data(), given.held.size(), output_names.data(),
                  output_names.size(), found.held.data()));
  std::vector<OrtValue*> values(found.held.size(), nullptr);
  values.swap(found.held);
  return std::make_unique<Result>(api_, std::move(values), outputs_);
}

Result::Result(const OrtApi& api, std::vector<OrtValue*> values, const std::vector<Port>& ports)
    : api_(api), values_(std::move(values)), dims_(values_.size()), tensors_(values_.size()) {
  for (std::size_t at = 0; at < values_.size(); ++at) {
    OrtTensorTypeAndShapeInfo* info = nullptr;
    void* data = nullptr;
    std::size_t rank = 0, count = 0;
    ONNXTensorElementDataType element = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
    OrtStatus* status = api_.GetTensorTypeAndShape(values_[at], &info);
    if (status == nullptr) status = api_.GetDimensionsCount(info, &rank);
    dims_[at].resize(rank);
    if (status == nullptr) status = api_.GetDimensions(info, dims_[at].data(), rank);
    if (status == nullptr) status = api_.GetTensorShapeElementCount(info, &count);
    if (status == nullptr) status = api_.GetTensorElementType(info, &element);
    if (status == nullptr) status = api_.GetTensorMutableData(values_[at], &data);
    if (info != nullptr) api_.ReleaseTensorTypeAndShapeInfo(info);
    const Port& port = ports[at];
    if (status != nullptr || element != element_of(port.dtype)) {
      const std::string why = status != nullptr ? told(api_, status) : "an output of another element type";
      for (OrtValue* value : values_) api_.ReleaseValue(value);
      throw Failure(LAT_FAILED, "an output of the model cannot be read", {port.name + ": " + why, "", ""});
    }
    tensors_[at] = {port.name.c_str(), port.dtype, rank, dims_[at].data(), data, count * bytes_of(port.dtype)};
  }
}

Result::~Result() {
  for (OrtValue* value : values_) api_.ReleaseValue(value);
}

const lat_tensor& Result::named(const std::string& name) const {
  const auto place =
      std::find_if(tensors_.begin(), tensors_.end(), [&](const lat_tensor& tensor) { return tensor.name == name; });
  if (place == tensors_.end()) throw bad_input("the model has no such output", {"", name, ""});
  return *place;
}

}  // namespace lat_edge
