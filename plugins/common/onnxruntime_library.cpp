// liblat_ort.so: registers every op that an adapter added. Nothing of onnxruntime is linked; its API comes with the
// call.
#include <memory>
#include <thread>

#include "common/onnxruntime_op.h"

namespace lat::ort {
namespace {

// Puts the op's name before what `work` throws.
template <class Work>
auto with_name(const char* op, Work&& work) {
  try {
    return work();
  } catch (const BadInput& error) {
    throw BadInput(std::string("lat::") + op + ": " + error.what());
  } catch (const std::runtime_error& error) {
    throw std::runtime_error(std::string("lat::") + op + ": " + error.what());
  }
}

// Whether a node has the attribute, but not as the integer that was asked for: onnxruntime gives the same code for one
// of another type as for one that is not there.
bool is_of_another_type(const OrtKernelInfo* info, const char* name) {
  const OrtApi& api = Ort::GetApi();
  float real = 0;
  std::size_t count = 0;
  return Ort::Status(api.KernelInfoGetAttribute_float(info, name, &real)).IsOK() ||
         Ort::Status(api.KernelInfoGetAttribute_string(info, name, nullptr, &count)).IsOK() ||
         Ort::Status(api.KernelInfoGetAttributeArray_int64(info, name, nullptr, &count)).IsOK() ||
         Ort::Status(api.KernelInfoGetAttributeArray_float(info, name, nullptr, &count)).IsOK();
}

Value value_of(const OrtKernelInfo* info, const Attribute& attribute) {
  const OrtApi& api = Ort::GetApi();
  Value value;
  const Ort::Status status(attribute.kind == Kind::real
                               ? api.KernelInfoGetAttribute_float(info, attribute.name, &value.real)
                               : api.KernelInfoGetAttribute_int64(info, attribute.name, &value.integer));
  if (status.IsOK()) return value;
  if (!attribute.absent || is_of_another_type(info, attribute.name))
    throw std::runtime_error(std::string(attribute.name) + ": " + status.GetErrorMessage());
  value.integer = *attribute.absent;
  return value;
}

}  // namespace

std::vector<const OrtCustomOp*>& all_ops() {
  static std::vector<const OrtCustomOp*> ops;
  return ops;
}

Values values_of(const OrtKernelInfo* info, const std::vector<Attribute>& attributes) {
  Values values;
  for (const Attribute& attribute : attributes) values.push_back(value_of(info, attribute));
  return values;
}

Call::Call(const Node& node, OrtKernelContext* context)
    : node_(node),
      given_(context),
      context_(context),
      sizes_(with_name(node.op, [&] { return Sizes(node.attributes, node.values); })),
      data_(node.ports.size(), nullptr) {
  with_name(node.op, [&] {
    const std::size_t given = context_.GetInputCount();
    for (std::size_t index = 0; index < node.ports.size(); ++index) {
      const Ort::ConstValue value = index < given ? context_.GetInput(index) : Ort::ConstValue{};
      if (value == nullptr) throw BadInput(std::string("input ") + node.ports[index].name + " is missing");
      const std::vector<int64_t> shape = value.GetTensorTypeAndShapeInfo().GetShape();
      sizes_.bind(node.ports[index], shape.data(), shape.size());
      data_[index] = value.GetTensorRawData();
    }
  });
}

KernelCall Call::kernel_call() {
  const std::vector<int64_t> shape = {sizes_['B'], sizes_['N'], sizes_['E']};
  void* const output = context_.GetOutput(0, shape.data(), shape.size()).GetTensorMutableRawData();
  return {node_.values, sizes_, node_.dtype, data_.data(), output};
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

void raise(const char* op, const lat_status& status) {
  with_name(op, [&] { lat::raise(status); });
}

DeviceMemory::DeviceMemory(const OrtKernelInfo* info) {
  const OrtApi& api = Ort::GetApi();
  Ort::ThrowOnError(api.KernelInfoGetAllocator(info, OrtMemTypeDefault, &allocator_));
  OrtStatus* status = api.AllocatorGetInfo(allocator_, &memory_);
  if (status == nullptr) return;
  api.ReleaseAllocator(allocator_);
  Ort::ThrowOnError(status);
}

DeviceMemory::~DeviceMemory() { Ort::GetApi().ReleaseAllocator(allocator_); }

void* DeviceMemory::take(OrtKernelContext* context, std::size_t bytes) const {
  void* block = nullptr;
  Ort::ThrowOnError(Ort::GetApi().KernelContext_GetScratchBuffer(context, memory_, bytes, &block));
  return block;
}

void run_on_cuda(const CudaOp& op, const DeviceMemory& memory, Call& call) {
  const KernelCall kernel_call = call.kernel_call();
  lat_status status{};
  const int64_t bytes = op.workspace(kernel_call, &status);
  raise(op.name, status);
  const auto give_back = [&memory](void* block) { memory.give_back(block); };
  const std::unique_ptr<void, decltype(give_back)> workspace(
      bytes > 0 ? memory.take(call.context(), static_cast<std::size_t>(bytes)) : nullptr, give_back);
  void* stream = nullptr;
  Ort::ThrowOnError(Ort::GetApi().KernelContext_GetGPUComputeStream(call.context(), &stream));
  op.run(kernel_call, workspace.get(), stream, &status);
  raise(op.name, status);
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
