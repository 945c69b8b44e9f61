// liblat_ort.so: registers every op that an adapter added. Nothing of onnxruntime is linked; its API comes with the
// call.
#include <thread>

#include "common/onnxruntime_op.h"

namespace lat::ort {
namespace {

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (std::size_t at = 0; at < shape.size(); ++at) text += (at ? ", " : "") + std::to_string(shape[at]);
  return text + "]";
}

}  // namespace

std::vector<const OrtCustomOp*>& all_ops() {
  static std::vector<const OrtCustomOp*> ops;
  return ops;
}

Call::Call(const char* op, const std::vector<Port>& ports, OrtKernelContext* context)
    : context_(context), data_(ports.size(), nullptr) {
  const std::size_t given = context_.GetInputCount();
  for (std::size_t index = 0; index < ports.size(); ++index) {
    const Port& port = ports[index];
    const Ort::ConstValue value = index < given ? context_.GetInput(index) : Ort::ConstValue{};
    if (value == nullptr) {
      if (port.optional) continue;
      throw BadInput(std::string("lat::") + op + ": input " + port.name + " is missing");
    }
    const std::vector<int64_t> shape = value.GetTensorTypeAndShapeInfo().GetShape();
    const std::string dims = port.dims;
    bool fits = shape.size() == dims.size();
    for (std::size_t at = 0; fits && at < dims.size(); ++at) {
      int64_t& size = sizes_[static_cast<unsigned char>(dims[at])];
      if (size == 0) size = shape[at];
      fits = shape[at] >= 1 && size == shape[at];
    }
    if (!fits) {
      std::string expected = "[";
      for (std::size_t at = 0; at < dims.size(); ++at) {
        const int64_t size = sizes_[static_cast<unsigned char>(dims[at])];
        expected += (at ? ", " : "") + std::string(1, dims[at]) + (size > 0 ? "=" + std::to_string(size) : ">=1");
      }
      throw BadInput(std::string("lat::") + op + ": input " + port.name + ": got shape " + shape_text(shape) +
                     ", expected " + expected + "]");
    }
    data_[index] = value.GetTensorRawData();
  }
}

void* Call::output(const std::vector<int64_t>& shape) {
  return context_.GetOutput(0, shape.data(), shape.size()).GetTensorMutableRawData();
}

lat_parallel Call::parallel() {
  // How many threads the session has is not told; what is computed does not hang on it.
  const unsigned threads = std::thread::hardware_concurrency();
  return {&Call::run, &context_, static_cast<int32_t>(threads > 0 ? threads : 1)};
}

void Call::run(void* pool, int64_t count, lat_task task, void* task_context) {
  struct Work {
    lat_task task;
    void* context;
  } work{task, task_context};
  // Many more batches than threads: threads that are done early take the next one.
  constexpr int64_t kBatches = 64;
  static_cast<Ort::KernelContext*>(pool)->ParallelFor(
      [](void* given, size_t index) {
        const Work& it = *static_cast<Work*>(given);
        it.task(it.context, static_cast<int64_t>(index));
      },
      static_cast<size_t>(count), static_cast<size_t>(count < kBatches ? count : kBatches), &work);
}

int64_t head_size(const char* op, int64_t width, int64_t num_heads) {
  if (num_heads >= 1 && width % num_heads == 0) return width / num_heads;
  throw BadInput(std::string("lat::") + op + ": the hidden size must be a multiple of num_heads: got E=" +
                 std::to_string(width) + ", num_heads=" + std::to_string(num_heads));
}

void demand_size(const char* op, const char* input, const char* dim, int64_t got, int64_t expected) {
  if (got == expected) return;
  throw BadInput(std::string("lat::") + op + ": input " + input + ": got " + dim + "=" + std::to_string(got) +
                 ", expected " + std::to_string(expected));
}

void raise(const char* op, const lat_status& status) {
  if (status.code == LAT_OK) return;
  const std::string text = std::string("lat::") + op + ": " + status.message;
  if (status.code == LAT_BAD_ARGUMENT) throw BadInput(text);
  throw std::runtime_error(text);
}

int64_t int_attribute(const OrtKernelInfo* info, const char* name) {
  int64_t value = 0;
  Ort::ThrowOnError(Ort::GetApi().KernelInfoGetAttribute_int64(info, name, &value));
  return value;
}

int64_t int_attribute(const OrtKernelInfo* info, const char* name, int64_t otherwise) {
  int64_t value = 0;
  OrtStatus* status = Ort::GetApi().KernelInfoGetAttribute_int64(info, name, &value);
  if (status == nullptr) return value;
  Ort::GetApi().ReleaseStatus(status);
  return otherwise;
}

float float_attribute(const OrtKernelInfo* info, const char* name) {
  float value = 0;
  Ort::ThrowOnError(Ort::GetApi().KernelInfoGetAttribute_float(info, name, &value));
  return value;
}

void infer_like_first_input(OrtShapeInferContext* context) {
  const OrtApi& api = Ort::GetApi();
  OrtTensorTypeAndShapeInfo* info = nullptr;
  Ort::ThrowOnError(api.ShapeInferContext_GetInputTypeShape(context, 0, &info));
  Ort::ThrowOnError(api.ShapeInferContext_SetOutputTypeShape(context, 0, info));
}

}  // namespace lat::ort

extern "C" LAT_EXPORT OrtStatus* RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* base) {
  const OrtApi* api = base->GetApi(ORT_API_VERSION);
  if (api == nullptr) {
    const OrtApi* first = base->GetApi(1);
    return first->CreateStatus(ORT_NOT_IMPLEMENTED, "liblat_ort was built for a later onnxruntime than this one");
  }
  Ort::InitApi(api);
  return lat::ort::guarded([&] {
    // One domain for all sessions of the process: it outlives them, and its ops are constants of this library.
    static const Ort::CustomOpDomain domain = [] {
      Ort::CustomOpDomain made("lat");
      for (const OrtCustomOp* op : lat::ort::all_ops()) made.Add(op);
      return made;
    }();
    Ort::ThrowOnError(Ort::GetApi().AddCustomOpDomain(options, const_cast<Ort::CustomOpDomain&>(domain)));
  });
}
