// What the onnxruntime form of every op has in common. An op's adapter says what it takes and fills the kernel's
// arguments; it does no arithmetic. Nothing is thrown into onnxruntime: it gets a status.
#pragma once

#define ORT_API_MANUAL_INIT
#include <onnxruntime_cxx_api.h>
#undef ORT_API_MANUAL_INIT

#include <cstdint>
#include <exception>
#include <string>
#include <type_traits>
#include <vector>

#include "common/contract.h"

namespace lat::ort {

inline ONNXTensorElementDataType element_type(lat_dtype dtype) {
  return dtype == LAT_FLOAT32   ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT
         : dtype == LAT_FLOAT16 ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16
                                : ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16;
}

// The inputs and the output of one call, checked against the ports.
class Call {
 public:
  Call(const char* op, const std::vector<Port>& ports, OrtKernelContext* context);

  int64_t size(char letter) const { return sizes_[letter]; }
  // The data of an input, in its storage type.
  void* data(std::size_t input) const { return const_cast<void*>(data_[input]); }
  const int32_t* integers(std::size_t input) const { return static_cast<const int32_t*>(data_[input]); }
  // [B, N, E] without gaps.
  lat_rows rows(std::size_t input) const { return rows(data(input)); }
  lat_rows rows(void* data) const { return {data, size('N') * size('E'), size('E')}; }
  void* output(const std::vector<int64_t>& shape);
  // The call as a contract sees it, with its output [B, N, E].
  KernelCall kernel_call(const Values& values, lat_dtype dtype);
  // Runs tasks on the session's own threads.
  lat_parallel parallel();
  OrtKernelContext* context() const { return given_; }

 private:
  static void run(void* pool, int64_t count, lat_task task, void* task_context);

  OrtKernelContext* given_;
  Ort::KernelContext context_;
  Sizes sizes_;
  std::vector<const void*> data_;
};

// D of E = H * D; throws where the heads do not divide the width.
int64_t head_size(const char* op, int64_t width, int64_t num_heads);
// Throws where a size of an input is not the one that attributes and other inputs give it.
void demand_size(const char* op, const char* input, const char* dim, int64_t got, int64_t expected);

// Throws what a kernel reported, with the op's name before it.
void raise(const char* op, const lat_status& status);

int64_t int_attribute(const OrtKernelInfo* info, const char* name);
float float_attribute(const OrtKernelInfo* info, const char* name);
// The default where the node has none.
int64_t int_attribute(const OrtKernelInfo* info, const char* name, int64_t otherwise);

// Attributes of a node as the contract has them. Their bounds are the kernel's to check, at the first call: onnxruntime
// makes an error of an invalid argument only of that.
Values values_of(const OrtKernelInfo* info, const std::vector<Attribute>& attributes);

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

// The provider that a kernel is for: its `provider`, or the CPU where it names none.
template <class Kernel, class = void>
struct ProviderOf {
  static constexpr const char* name = "CPUExecutionProvider";
};
template <class Kernel>
struct ProviderOf<Kernel, std::void_t<decltype(Kernel::provider)>> {
  static constexpr const char* name = Kernel::provider;
};

// One op in one storage type. `Kernel` has: `name`, `ports()`, a constructor (const OrtKernelInfo*) that reads
// attributes, and `compute(Call&, lat_dtype)`.
template <class Kernel>
class CustomOp : public OrtCustomOp {
 public:
  explicit CustomOp(lat_dtype dtype) : OrtCustomOp{}, dtype_(dtype) {
    version = ORT_API_VERSION;
    GetName = [](const OrtCustomOp*) -> const char* { return Kernel::name; };
    GetExecutionProviderType = [](const OrtCustomOp*) -> const char* { return ProviderOf<Kernel>::name; };
    GetInputTypeCount = [](const OrtCustomOp*) -> size_t { return Kernel::ports().size(); };
    GetInputType = [](const OrtCustomOp* op, size_t index) {
      return Kernel::ports()[index].storage == Storage::int32 ? ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32
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
      return guarded([&] { *made = new Node{Kernel(info), self(op).dtype_}; });
    };
    KernelComputeV2 = [](void* node, OrtKernelContext* context) {
      return guarded([&] {
        Node& it = *static_cast<Node*>(node);
        Call call(Kernel::name, Kernel::ports(), context);
        it.kernel.compute(call, it.dtype);
      });
    };
    KernelDestroy = [](void* node) { delete static_cast<Node*>(node); };
    InferOutputShapeFn = [](const OrtCustomOp*, OrtShapeInferContext* context) {
      return guarded([&] { Kernel::infer_shape(context); });
    };
  }

 private:
  struct Node {
    Kernel kernel;
    lat_dtype dtype;
  };

  static const CustomOp& self(const OrtCustomOp* op) { return *static_cast<const CustomOp*>(op); }

  lat_dtype dtype_;
};

// The output has the shape of the first input.
void infer_like_first_input(OrtShapeInferContext* context);

// An op by its contract on the CPU.
template <class Contract, auto entry>
class CpuKernel {
 public:
  static constexpr const char* name = Contract::name;

  static const std::vector<Port>& ports() { return Contract::ports(); }
  static void infer_shape(OrtShapeInferContext* context) { infer_like_first_input(context); }

  explicit CpuKernel(const OrtKernelInfo* info) : values_(values_of(info, Contract::attributes())) {}

  void compute(Call& call, lat_dtype dtype) const {
    const auto args = Contract::args(call.kernel_call(values_, dtype));
    const lat_parallel parallel = call.parallel();
    lat_status status;
    entry(&args, &parallel, &status);
    raise(name, status);
  }

 private:
  const Values values_;
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
void run_on_cuda(const CudaOp& op, const Values& values, const DeviceMemory& memory, Call& call, lat_dtype dtype);

// An op by its contract on onnxruntime's CUDA provider. In a session without that provider it is never asked for.
template <class Contract, auto entry, auto workspace_entry>
class CudaKernel {
 public:
  static constexpr const char* name = Contract::name;
  static constexpr const char* provider = "CUDAExecutionProvider";

  static const std::vector<Port>& ports() { return Contract::ports(); }
  static void infer_shape(OrtShapeInferContext* context) { infer_like_first_input(context); }

  explicit CudaKernel(const OrtKernelInfo* info) : values_(values_of(info, Contract::attributes())), memory_(info) {}

  void compute(Call& call, lat_dtype dtype) const {
    run_on_cuda(cuda_op<Contract, entry, workspace_entry>(), values_, memory_, call, dtype);
  }

 private:
  const Values values_;
  const DeviceMemory memory_;
};

// `static const Registration<Kernel> registration;` in an adapter adds its op, in every storage type.
template <class Kernel>
struct Registration {
  Registration() {
    static const CustomOp<Kernel> ops[] = {CustomOp<Kernel>(LAT_FLOAT32), CustomOp<Kernel>(LAT_FLOAT16),
                                           CustomOp<Kernel>(LAT_BFLOAT16)};
    for (const CustomOp<Kernel>& op : ops) all_ops().push_back(&op);
  }
};

}  // namespace lat::ort
