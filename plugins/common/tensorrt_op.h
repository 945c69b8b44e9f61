// What the TensorRT form of every op has in common: an IPluginV3 in namespace `lat` around the op's contract and its
// CUDA kernel. It does no arithmetic, and calls nothing of TensorRT or CUDA: only their headers are needed.
// Nothing is thrown into TensorRT: it gets a logged error and a code, or no plugin.
#pragma once

#include <NvInferRuntime.h>

#include <string>
#include <vector>

#include "common/contract.h"

namespace lat::trt {

inline constexpr const char* kNamespace = "lat";
inline constexpr const char* kVersion = "1";

class Plugin final : public nvinfer1::IPluginV3,
                     public nvinfer1::IPluginV3OneCore,
                     public nvinfer1::IPluginV3OneBuild,
                     public nvinfer1::IPluginV3OneRuntime {
 public:
  // `where` goes before every message: the op and its node.
  Plugin(const CudaOp& op, std::string where, Values values);
  // A copy would point into the fields of the original: clone() makes new ones.
  Plugin(const Plugin&) = delete;
  Plugin& operator=(const Plugin&) = delete;

  nvinfer1::IPluginCapability* getCapabilityInterface(nvinfer1::PluginCapabilityType type) noexcept override;
  nvinfer1::IPluginV3* clone() noexcept override;

  // Core.
  const char* getPluginName() const noexcept override { return op_.name; }
  const char* getPluginVersion() const noexcept override { return kVersion; }
  const char* getPluginNamespace() const noexcept override { return kNamespace; }

  // Build.
  int32_t getNbOutputs() const noexcept override { return 1; }
  int32_t getOutputDataTypes(nvinfer1::DataType* output_types, int32_t outputs, const nvinfer1::DataType* input_types,
                             int32_t inputs) const noexcept override;
  int32_t getOutputShapes(const nvinfer1::DimsExprs* inputs, int32_t input_count,
                          const nvinfer1::DimsExprs* shape_inputs, int32_t shape_input_count,
                          nvinfer1::DimsExprs* outputs, int32_t output_count,
                          nvinfer1::IExprBuilder& builder) noexcept override;
  // Without gaps; activations of one type, float32, float16 or bfloat16; integers int32.
  bool supportsFormatCombination(int32_t position, const nvinfer1::DynamicPluginTensorDesc* tensors, int32_t inputs,
                                 int32_t outputs) noexcept override;
  int32_t configurePlugin(const nvinfer1::DynamicPluginTensorDesc* inputs, int32_t input_count,
                          const nvinfer1::DynamicPluginTensorDesc* outputs, int32_t output_count) noexcept override;
  // What the kernel needs at the profile's maximum.
  std::size_t getWorkspaceSize(const nvinfer1::DynamicPluginTensorDesc* inputs, int32_t input_count,
                               const nvinfer1::DynamicPluginTensorDesc* outputs,
                               int32_t output_count) const noexcept override;
  // The attributes: with shapes and types, which TensorRT adds, all that timings hang on.
  const char* getTimingCacheID() noexcept override { return attributes_text_.c_str(); }
  const char* getMetadataString() noexcept override { return attributes_text_.c_str(); }

  // Runtime.
  int32_t onShapeChange(const nvinfer1::PluginTensorDesc* inputs, int32_t input_count,
                        const nvinfer1::PluginTensorDesc* outputs, int32_t output_count) noexcept override;
  int32_t enqueue(const nvinfer1::PluginTensorDesc* input_descs, const nvinfer1::PluginTensorDesc* output_descs,
                  const void* const* inputs, void* const* outputs, void* workspace,
                  cudaStream_t stream) noexcept override;
  nvinfer1::IPluginV3* attachToContext(nvinfer1::IPluginResourceContext* context) noexcept override;
  const nvinfer1::PluginFieldCollection* getFieldsToSerialize() noexcept override { return &collection_; }

 private:
  void demand_counts(int32_t inputs, int32_t outputs) const;
  // Bytes of workspace; throws what the kernel says of these sizes.
  std::size_t workspace(const Sizes& sizes, lat_dtype dtype) const;
  // The same at the profile's maximum, for which every input's shape is checked.
  std::size_t largest_workspace(const nvinfer1::DynamicPluginTensorDesc* inputs, int32_t input_count,
                                int32_t output_count) const;

  const CudaOp& op_;
  const std::string where_;
  const Values values_;
  const std::size_t first_activation_;
  std::string attributes_text_;
  std::vector<int32_t> integers_;  // of values_, as they are serialised
  std::vector<nvinfer1::PluginField> fields_;
  nvinfer1::PluginFieldCollection collection_{};
};

// Makes the plugins of one op out of fields: exactly the contract's attributes, integers as int32 or int64, reals as
// float32 or float64 (rounded to the nearest float32). The ONNX parser gives a creator the attributes that
// getFieldNames() lists, and no others; from elsewhere plugin_namespace and plugin_version may come along.
class Creator final : public nvinfer1::IPluginCreatorV3One {
 public:
  explicit Creator(const CudaOp& op);

  nvinfer1::IPluginV3* createPlugin(const char* name, const nvinfer1::PluginFieldCollection* fields,
                                    nvinfer1::TensorRTPhase phase) noexcept override;
  const nvinfer1::PluginFieldCollection* getFieldNames() noexcept override { return &collection_; }
  const char* getPluginName() const noexcept override { return op_.name; }
  const char* getPluginVersion() const noexcept override { return kVersion; }
  const char* getPluginNamespace() const noexcept override { return kNamespace; }

 private:
  const CudaOp& op_;
  std::vector<nvinfer1::PluginField> fields_;
  nvinfer1::PluginFieldCollection collection_{};
};

// Creators of this library, to which every adapter adds its own while the library is loaded.
std::vector<nvinfer1::IPluginCreatorInterface*>& all_creators();

// To the logger that TensorRT gave, else to stderr.
void log_error(const std::string& text) noexcept;

// `const Registration<Contract, entry, workspace_entry> registration;` in an adapter adds its op.
template <class Contract, auto entry, auto workspace_entry>
struct Registration {
  Registration() {
    static Creator creator(cuda_op<Contract, entry, workspace_entry>());
    all_creators().push_back(&creator);
  }
};

}  // namespace lat::trt
