// What the onnxruntime form of every op has in common: a custom op around the op's contract and one of its kernels. It
// does no arithmetic. Nothing is thrown into onnxruntime: it gets a status.
#pragma once

#define ORT_API_MANUAL_INIT
#include <onnxruntime_cxx_api.h>
#undef ORT_API_MANUAL_INIT

#include <cstdint>
#include <exception>
#include <utility>
#include <vector>

#include "common/contract.h"

namespace lat::ort {

inline ONNXTensorElementDataType element_type(lat_dtype dtype) {
  return dtype == LAT_FLOAT32   ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT
         : dtype == LAT_FLOAT16 ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16
                                : ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16;
}

// A node of an op: what its calls have in common.
struct Node {
  const char* op;
  const std::vector<Attribute>& attributes;
  const std::vector<Port>& ports;
  Values values;
  lat_dtype dtype;
};

// Attributes of a node as the contract has them. Their bounds are checked at the first call: onnxruntime makes an error
// of an invalid argument only of that.
Values values_of(const OrtKernelInfo* info, const std::vector<Attribute>& attributes);

// The inputs and the output of one call, checked against the contract.
class Call {
 public:
  Call(const Node& node, OrtKernelContext* context);

  // As the contract sees it, with its output [B, N, E].
  KernelCall kernel_call();
  // Runs tasks on the session's own threads.
  lat_parallel parallel();
  OrtKernelContext* context() const { return given_; }

 private:
  static void run(void* pool, int64_t count, lat_task task, void* task_context);

  const Node& node_;
  OrtKernelContext* given_;
  Ort::KernelContext context_;
  Sizes sizes_;
  std::vector<const void*> data_;
};

// Throws what a kernel reported, with the op's name before it.
void raise(const char* op, const lat_status& status);

// Custom ops of this library, to which every adapter adds its own while the library is loaded.
std::vector<const OrtCustomOp*>& all_ops();

// A status for onnxruntime out of whatever `work` throws.
template <class Work>
OrtStatusPtr guarded(Work&& work) noexcept {
  try {
    work();
    return nullptr;
  } catch (const BadInput& error) {
    return Ort::GetApi().CreateStatus(ORT_INVALID_ARGUMENT, error.what());
  } catch (const std::exception& error) {
    return Ort::GetApi().CreateStatus(ORT_FAIL, error.what());
  } catch (...) {
    return Ort::GetApi().CreateStatus(ORT_FAIL, "an error without a message");
  }
}

// The output has the shape of the first input.
void infer_like_first_input(OrtShapeInferContext* context);

// One op in one storage type, on one provider. `Kernel` has: `Contract`, `provider`, a constructor (const
// OrtKernelInfo*) and `compute(Call&)`.
template <class Kernel>
class CustomOp : public OrtCustomOp {
  using Contract = typename Kernel::Contract;

 public:
  explicit CustomOp(lat_dtype dtype) : OrtCustomOp{}, dtype_(dtype) {
    version = ORT_API_VERSION;
    GetName = [](const OrtCustomOp*) -> const char* { return Contract::name; };
    GetExecutionProviderType = [](const OrtCustomOp*) -> const char* { return Kernel::provider; };
    GetInputTypeCount = [](const OrtCustomOp*) -> size_t { return Contract::ports().size(); };
    GetInputType = [](const OrtCustomOp* op, size_t index) {
      return Contract::ports()[index].storage == Storage::int32 ? ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32
                                                                : element_type(self(op).dtype_);
    };
    GetInputMemoryType = [](const OrtCustomOp*, size_t) { return OrtMemTypeDefault; };
    GetInputCharacteristic = [](const OrtCustomOp*, size_t) { return INPUT_OUTPUT_REQUIRED; };
    GetOutputTypeCount = [](const OrtCustomOp*) -> size_t { return 1; };
    GetOutputType = [](const OrtCustomOp* op, size_t) { return element_type(self(op).dtype_); };
    GetOutputCharacteristic = [](const OrtCustomOp*, size_t) { return INPUT_OUTPUT_REQUIRED; };
    GetVariadicInputMinArity = [](const OrtCustomOp*) { return 1; };
    GetVariadicInputHomogeneity = [](const OrtCustomOp*) { return 1; };
    GetVariadicOutputMinArity = [](const OrtCustomOp*) { return 1; };
    GetVariadicOutputHomogeneity = [](const OrtCustomOp*) { return 1; };
    GetStartVersion = [](const OrtCustomOp*) { return 1; };
    GetEndVersion = [](const OrtCustomOp*) { return 1; };
    CreateKernelV2 = [](const OrtCustomOp* op, const OrtApi*, const OrtKernelInfo* info, void** made) {
      return guarded([&] {
        Values values = values_of(info, Contract::attributes());
        *made = new NodeAndKernel{
            {Contract::name, Contract::attributes(), Contract::ports(), std::move(values), self(op).dtype_},
            Kernel(info)};
      });
    };
    KernelComputeV2 = [](void* made, OrtKernelContext* context) {
      return guarded([&] {
        const NodeAndKernel& it = *static_cast<NodeAndKernel*>(made);
        Call call(it.node, context);
        it.kernel.compute(call);
      });
    };
    KernelDestroy = [](void* made) { delete static_cast<NodeAndKernel*>(made); };
    InferOutputShapeFn = [](const OrtCustomOp*, OrtShapeInferContext* context) {
      return guarded([&] { infer_like_first_input(context); });
    };
  }

 private:
  struct NodeAndKernel {
    Node node;
    Kernel kernel;
  };

  static const CustomOp& self(const OrtCustomOp* op) { return *static_cast<const CustomOp*>(op); }

  lat_dtype dtype_;
};

// An op on the CPU.
template <class Op, auto entry>
class CpuKernel {
 public:
  using Contract = Op;
  static constexpr const char* provider = "CPUExecutionProvider";

  explicit CpuKernel(const OrtKernelInfo*) {}

  void compute(Call& call) const {
    const auto args = Contract::args(call.kernel_call());
    const lat_parallel parallel = call.parallel();
    lat_status status;
    entry(&args, &parallel, &status);
    raise(Contract::name, status);
  }
};

// Memory of a kernel's own device, in the order of the call's stream: nothing waits for the device.
class DeviceMemory {
 public:
  explicit DeviceMemory(const OrtKernelInfo* info);
  ~DeviceMemory();
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  // The provider's arena knows which stream used a block: it may be given back while the stream still runs.
  void* take(OrtKernelContext* context, std::size_t bytes) const;
  void give_back(void* block) const { allocator_->Free(allocator_, block); }

 private:
  OrtAllocator* allocator_ = nullptr;
  const OrtMemoryInfo* memory_ = nullptr;
};

// Puts an op on the stream of the call.
void run_on_cuda(const CudaOp& op, const DeviceMemory& memory, Call& call);

// An op on onnxruntime's CUDA provider. In a session without that provider it is never asked for.
template <class Op, auto entry, auto workspace_entry>
class CudaKernel {
 public:
  using Contract = Op;
  static constexpr const char* provider = "CUDAExecutionProvider";

  explicit CudaKernel(const OrtKernelInfo* info) : memory_(info) {}

  void compute(Call& call) const { run_on_cuda(cuda_op<Contract, entry, workspace_entry>(), memory_, call); }

 private:
  const DeviceMemory memory_;
};

// `const Registration<Kernel> registration;` in an adapter adds its op, in every storage type.
template <class Kernel>
struct Registration {
  Registration() {
    static const CustomOp<Kernel> ops[] = {CustomOp<Kernel>(LAT_FLOAT32), CustomOp<Kernel>(LAT_FLOAT16),
                                           CustomOp<Kernel>(LAT_BFLOAT16)};
    for (const CustomOp<Kernel>& op : ops) all_ops().push_back(&op);
  }
};

}  // namespace lat::ort
