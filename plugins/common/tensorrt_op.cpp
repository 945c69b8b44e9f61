#include "common/tensorrt_op.h"

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <utility>

namespace lat::trt {
namespace {

using nvinfer1::DataType;
using nvinfer1::PluginField;
using nvinfer1::PluginFieldType;

constexpr int32_t kDone = 0;
constexpr int32_t kFailed = 1;

// Runs `work`; what it throws is logged, and `failed` given back.
template <class Result, class Work>
Result guarded(const std::string& where, Result failed, Work&& work) noexcept {
  try {
    return work();
  } catch (const std::exception& error) {
    try {
      log_error(where + ": " + error.what());
    } catch (...) {
      std::fputs(error.what(), stderr);
    }
  } catch (...) {
    log_error("lat: an error without a message");
  }
  return failed;
}

std::string name_of(DataType type) {
  switch (type) {
    case DataType::kFLOAT:
      return "float32";
    case DataType::kHALF:
      return "float16";
    case DataType::kBF16:
      return "bfloat16";
    case DataType::kINT32:
      return "int32";
    case DataType::kINT64:
      return "int64";
    default:
      return "DataType " + std::to_string(static_cast<int32_t>(type));
  }
}

bool is_activation(DataType type) {
  return type == DataType::kFLOAT || type == DataType::kHALF || type == DataType::kBF16;
}

// Throws for a type that no kernel has.
lat_dtype dtype_of(const Port& port, DataType type) {
  if (type == DataType::kFLOAT) return LAT_FLOAT32;
  if (type == DataType::kHALF) return LAT_FLOAT16;
  if (type == DataType::kBF16) return LAT_BFLOAT16;
  throw BadInput(std::string("input ") + port.name + ": got " + name_of(type) +
                 ", expected float32, float16 or bfloat16");
}

std::size_t first_activation(const std::vector<Port>& ports) {
  std::size_t at = 0;
  while (ports.at(at).storage != Storage::activation) ++at;
  return at;
}

const char* name_of(PluginFieldType type) {
  static constexpr const char* names[] = {"float16", "float32", "float64", "int8", "int16", "int32",
                                          "char",    "dims",    "unknown", "bf16", "int64"};
  const auto at = static_cast<std::size_t>(type);
  return at < sizeof names / sizeof *names ? names[at] : "another type";
}

template <class T>
T read(const PluginField& field) {
  T value;
  std::memcpy(&value, field.data, sizeof value);
  return value;
}

Value value_of(const Attribute& attribute, const PluginField& field) {
  const bool real = attribute.kind == Kind::real;
  const bool known = real ? field.type == PluginFieldType::kFLOAT32 || field.type == PluginFieldType::kFLOAT64
                          : field.type == PluginFieldType::kINT32 || field.type == PluginFieldType::kINT64;
  if (!known || field.length != 1 || field.data == nullptr) {
    throw BadInput(std::string(attribute.name) + ": got " + std::to_string(field.length) + " x " + name_of(field.type) +
                   (field.data == nullptr ? " without data" : "") + ", expected one " +
                   (real ? "float32 or float64" : "int32 or int64"));
  }
  Value value;
  if (real) {
    value.real = field.type == PluginFieldType::kFLOAT32 ? read<float>(field) : static_cast<float>(read<double>(field));
    demand_bounds(attribute, value.real);
  } else {
    value.integer = field.type == PluginFieldType::kINT32 ? read<int32_t>(field) : read<int64_t>(field);
    demand_bounds(attribute, value.integer);
  }
  return value;
}

// Attributes of every ONNX node of the domain: they say which plugin it is, nothing about it.
bool names_the_plugin(const char* field) {
  return std::strcmp(field, "plugin_namespace") == 0 || std::strcmp(field, "plugin_version") == 0;
}

Values values_of(const std::vector<Attribute>& attributes, const nvinfer1::PluginFieldCollection* fields) {
  if (fields == nullptr || fields->nbFields < 0 || (fields->nbFields > 0 && fields->fields == nullptr))
    throw BadInput("got no fields");
  Values values(attributes.size());
  std::vector<bool> given(attributes.size(), false);
  for (int32_t index = 0; index < fields->nbFields; ++index) {
    const PluginField& field = fields->fields[index];
    if (field.name == nullptr) throw BadInput("got a field without a name");
    std::size_t at = 0;
    while (at < attributes.size() && std::strcmp(attributes[at].name, field.name) != 0) ++at;
    if (at < attributes.size()) {
      if (given[at]) throw BadInput(std::string(field.name) + ": got it twice, expected once");
      given[at] = true;
      values[at] = value_of(attributes[at], field);
    } else if (!names_the_plugin(field.name)) {
      std::string known;
      for (const Attribute& attribute : attributes) known += (known.empty() ? "" : ", ") + std::string(attribute.name);
      throw BadInput(std::string("got a field ") + field.name + ", expected " + known);
    }
  }
  for (std::size_t at = 0; at < attributes.size(); ++at) {
    if (given[at]) continue;
    if (!attributes[at].absent) throw BadInput(std::string(attributes[at].name) + ": the field is missing");
    values[at].integer = *attributes[at].absent;
  }
  return values;
}

// TensorRT promises no alignment of a workspace: it is asked for more.
void* aligned(void* workspace) {
  const std::uintptr_t past = reinterpret_cast<std::uintptr_t>(workspace) % LAT_WORKSPACE_ALIGNMENT;
  return past == 0 ? workspace : static_cast<char*>(workspace) + (LAT_WORKSPACE_ALIGNMENT - past);
}

// Sizes from the attributes and the shapes of all inputs; `shape(index)` gives one.
template <class Shape>
Sizes sizes_of(const CudaOp& op, const Values& values, Shape&& shape) {
  Sizes sizes(op.attributes, values);
  for (std::size_t at = 0; at < op.ports.size(); ++at) {
    const nvinfer1::Dims& dims = shape(at);
    sizes.bind(op.ports[at], dims.d, dims.nbDims < 0 ? 0 : static_cast<std::size_t>(dims.nbDims));
  }
  return sizes;
}

}  // namespace

Plugin::Plugin(const CudaOp& op, std::string where, Values values)
    : op_(op), where_(std::move(where)), values_(std::move(values)), first_activation_(first_activation(op.ports)) {
  integers_.reserve(values_.size());
  for (std::size_t at = 0; at < values_.size(); ++at) {
    const Attribute& attribute = op_.attributes[at];
    const bool real = attribute.kind == Kind::real;
    integers_.push_back(static_cast<int32_t>(values_[at].integer));
    fields_.emplace_back(attribute.name, real ? static_cast<const void*>(&values_[at].real) : &integers_[at],
                         real ? PluginFieldType::kFLOAT32 : PluginFieldType::kINT32, 1);
    char real_text[32];
    std::snprintf(real_text, sizeof real_text, "%.9g", static_cast<double>(values_[at].real));
    attributes_text_ +=
        (at ? "," : "") + std::string(attribute.name) + "=" + (real ? real_text : std::to_string(values_[at].integer));
  }
  collection_ = {static_cast<int32_t>(fields_.size()), fields_.data()};
}

nvinfer1::IPluginCapability* Plugin::getCapabilityInterface(nvinfer1::PluginCapabilityType type) noexcept {
  switch (type) {
    case nvinfer1::PluginCapabilityType::kCORE:
      return static_cast<nvinfer1::IPluginV3OneCore*>(this);
    case nvinfer1::PluginCapabilityType::kBUILD:
      return static_cast<nvinfer1::IPluginV3OneBuild*>(this);
    case nvinfer1::PluginCapabilityType::kRUNTIME:
      return static_cast<nvinfer1::IPluginV3OneRuntime*>(this);
  }
  return nullptr;
}

nvinfer1::IPluginV3* Plugin::clone() noexcept {
  return guarded(where_, static_cast<nvinfer1::IPluginV3*>(nullptr),
                 [&]() -> nvinfer1::IPluginV3* { return std::make_unique<Plugin>(op_, where_, values_).release(); });
}

void Plugin::demand_counts(int32_t inputs, int32_t outputs) const {
  if (inputs == static_cast<int32_t>(op_.ports.size()) && outputs == 1) return;
  std::string names;
  for (const Port& port : op_.ports) names += (names.empty() ? "" : ", ") + std::string(port.name);
  throw BadInput("got " + std::to_string(inputs) + " inputs and " + std::to_string(outputs) + " outputs, expected " +
                 std::to_string(op_.ports.size()) + " (" + names + ") and 1");
}

std::size_t Plugin::workspace(const Sizes& sizes, lat_dtype dtype) const {
  lat_status status{};
  const int64_t bytes = op_.workspace(KernelCall{values_, sizes, dtype, nullptr, nullptr}, &status);
  raise(status);
  return bytes > 0 ? static_cast<std::size_t>(bytes) + LAT_WORKSPACE_ALIGNMENT - 1 : 0;
}

std::size_t Plugin::largest_workspace(const nvinfer1::DynamicPluginTensorDesc* inputs, int32_t input_count,
                                      int32_t output_count) const {
  demand_counts(input_count, output_count);
  const lat_dtype dtype = dtype_of(op_.ports[first_activation_], inputs[first_activation_].desc.type);
  return workspace(sizes_of(op_, values_, [&](std::size_t at) -> const nvinfer1::Dims& { return inputs[at].max; }),
                   dtype);
}

int32_t Plugin::getOutputDataTypes(DataType* output_types, int32_t outputs, const DataType* input_types,
                                   int32_t inputs) const noexcept {
  return guarded(where_, kFailed, [&] {
    demand_counts(inputs, outputs);
    output_types[0] = input_types[first_activation_];
    return kDone;
  });
}

int32_t Plugin::getOutputShapes(const nvinfer1::DimsExprs* inputs, int32_t input_count, const nvinfer1::DimsExprs*,
                                int32_t shape_input_count, nvinfer1::DimsExprs* outputs, int32_t output_count,
                                nvinfer1::IExprBuilder&) noexcept {
  return guarded(where_, kFailed, [&] {
    demand_counts(input_count + shape_input_count, output_count);
    if (shape_input_count != 0) throw BadInput("got shape inputs, expected tensors only");
    Sizes sizes(op_.attributes, values_);
    for (std::size_t index = 0; index < op_.ports.size(); ++index) {
      const nvinfer1::DimsExprs& dims = inputs[index];
      std::vector<int64_t> shape;
      for (int32_t at = 0; at < dims.nbDims; ++at)
        shape.push_back(dims.d[at]->isConstant() ? dims.d[at]->getConstantValue() : Sizes::unknown);
      sizes.bind(op_.ports[index], shape.data(), shape.size(), true);
    }
    outputs[0] = inputs[first_activation_];
    return kDone;
  });
}

bool Plugin::supportsFormatCombination(int32_t position, const nvinfer1::DynamicPluginTensorDesc* tensors,
                                       int32_t inputs, int32_t outputs) noexcept {
  const auto ports = static_cast<int32_t>(op_.ports.size());
  if (inputs != ports || outputs != 1 || position < 0 || position > ports) return false;
  const nvinfer1::PluginTensorDesc& tensor = tensors[position].desc;
  if (tensor.format != nvinfer1::TensorFormat::kLINEAR) return false;
  if (position < ports && op_.ports[static_cast<std::size_t>(position)].storage == Storage::int32)
    return tensor.type == DataType::kINT32;
  const auto first = static_cast<int32_t>(first_activation_);
  return is_activation(tensor.type) && (position == first || tensor.type == tensors[first].desc.type);
}

int32_t Plugin::configurePlugin(const nvinfer1::DynamicPluginTensorDesc* inputs, int32_t input_count,
                                const nvinfer1::DynamicPluginTensorDesc*, int32_t output_count) noexcept {
  return guarded(where_, kFailed, [&] {
    largest_workspace(inputs, input_count, output_count);
    return kDone;
  });
}

std::size_t Plugin::getWorkspaceSize(const nvinfer1::DynamicPluginTensorDesc* inputs, int32_t input_count,
                                     const nvinfer1::DynamicPluginTensorDesc*, int32_t output_count) const noexcept {
  return guarded(where_, std::size_t{0}, [&] { return largest_workspace(inputs, input_count, output_count); });
}

int32_t Plugin::onShapeChange(const nvinfer1::PluginTensorDesc* inputs, int32_t input_count,
                              const nvinfer1::PluginTensorDesc*, int32_t output_count) noexcept {
  return guarded(where_, kFailed, [&] {
    demand_counts(input_count, output_count);
    const lat_dtype dtype = dtype_of(op_.ports[first_activation_], inputs[first_activation_].type);
    workspace(sizes_of(op_, values_, [&](std::size_t at) -> const nvinfer1::Dims& { return inputs[at].dims; }), dtype);
    return kDone;
  });
}

int32_t Plugin::enqueue(const nvinfer1::PluginTensorDesc* input_descs, const nvinfer1::PluginTensorDesc*,
                        const void* const* inputs, void* const* outputs, void* workspace,
                        cudaStream_t stream) noexcept {
  return guarded(where_, kFailed, [&] {
    const Sizes sizes =
        sizes_of(op_, values_, [&](std::size_t at) -> const nvinfer1::Dims& { return input_descs[at].dims; });
    const lat_dtype dtype = dtype_of(op_.ports[first_activation_], input_descs[first_activation_].type);
    lat_status status{};
    op_.run(KernelCall{values_, sizes, dtype, inputs, outputs[0]}, aligned(workspace), stream, &status);
    raise(status);
    return kDone;
  });
}

nvinfer1::IPluginV3* Plugin::attachToContext(nvinfer1::IPluginResourceContext*) noexcept { return clone(); }

Creator::Creator(const CudaOp& op) : op_(op) {
  for (const Attribute& attribute : op_.attributes) {
    fields_.emplace_back(attribute.name, nullptr,
                         attribute.kind == Kind::real ? PluginFieldType::kFLOAT32 : PluginFieldType::kINT32, 1);
  }
  collection_ = {static_cast<int32_t>(fields_.size()), fields_.data()};
}

nvinfer1::IPluginV3* Creator::createPlugin(const char* name, const nvinfer1::PluginFieldCollection* fields,
                                           nvinfer1::TensorRTPhase) noexcept {
  std::string where;
  return guarded(where, static_cast<nvinfer1::IPluginV3*>(nullptr), [&]() -> nvinfer1::IPluginV3* {
    where = std::string("lat::") + op_.name;
    if (name != nullptr && *name != 0) where += std::string(" (") + name + ")";
    return std::make_unique<Plugin>(op_, where, values_of(op_.attributes, fields)).release();
  });
}

}  // namespace lat::trt
