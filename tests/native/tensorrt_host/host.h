// What the steps of the host share.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "playing_tensorrt.h"

#define EXPECT(condition)                                                                                       \
  do {                                                                                                          \
    if (!(condition)) {                                                                                         \
      std::fprintf(stderr, "%s:%d: expected %s\n", __FILE__, __LINE__, #condition);                             \
      for (const std::string& error : playing::logged()) std::fprintf(stderr, "  logged: %s\n", error.c_str()); \
      std::exit(1);                                                                                             \
    }                                                                                                           \
  } while (false)

namespace playing {

// Errors that plugins logged and no step has looked at.
std::vector<std::string>& logged();

// Fields for a creator; copies share the data.
class Fields {
 public:
  Fields& add(const char* name, PluginFieldType type, const void* data, std::size_t bytes, int32_t length = 1) {
    const auto* first = static_cast<const char*>(data);
    data_.push_back(std::make_shared<std::vector<char>>(first, first + bytes));
    fields_.emplace_back(name, data_.back()->data(), type, length);
    return *this;
  }
  Fields& add(const char* name, int32_t value) { return add(name, PluginFieldType::kINT32, &value, sizeof value); }
  Fields& add(const char* name, int64_t value) { return add(name, PluginFieldType::kINT64, &value, sizeof value); }
  Fields& add(const char* name, float value) { return add(name, PluginFieldType::kFLOAT32, &value, sizeof value); }
  Fields& add(const char* name, double value) { return add(name, PluginFieldType::kFLOAT64, &value, sizeof value); }
  Fields& add(const char* name, const char* text) {
    const std::size_t bytes = std::strlen(text) + 1;
    return add(name, PluginFieldType::kCHAR, text, bytes, static_cast<int32_t>(bytes));
  }
  Fields& add_null(const char* name, PluginFieldType type) {
    fields_.emplace_back(name, nullptr, type, 1);
    return *this;
  }

  PluginFieldCollection collection() const { return {static_cast<int32_t>(fields_.size()), fields_.data()}; }

 private:
  std::vector<std::shared_ptr<std::vector<char>>> data_;
  std::vector<PluginField> fields_;
};

// A plugin and its three faces.
struct Made {
  explicit Made(IPluginV3* given) : plugin(given) {
    if (!plugin) return;
    core = static_cast<IPluginV3OneCore*>(plugin->getCapabilityInterface(PluginCapabilityType::kCORE));
    build = static_cast<IPluginV3OneBuild*>(plugin->getCapabilityInterface(PluginCapabilityType::kBUILD));
    runtime = static_cast<IPluginV3OneRuntime*>(plugin->getCapabilityInterface(PluginCapabilityType::kRUNTIME));
  }

  std::unique_ptr<IPluginV3> plugin;
  IPluginV3OneCore* core = nullptr;
  IPluginV3OneBuild* build = nullptr;
  IPluginV3OneRuntime* runtime = nullptr;
};

// Letters of every input, one a size; the one of int32 is the mask.
struct Input {
  const char* name;
  const char* letters;
  bool mask = false;
};

using Letters = std::map<char, int64_t>;

inline Dims dims_of(const Input& input, const Letters& sizes) {
  std::vector<int64_t> shape;
  for (const char* letter = input.letters; *letter; ++letter) shape.push_back(sizes.at(*letter));
  return dims_of(shape);
}

inline std::vector<PluginTensorDesc> descs_of(const std::vector<Input>& inputs, const Letters& sizes, DataType type) {
  std::vector<PluginTensorDesc> descs;
  for (const Input& input : inputs)
    descs.push_back({dims_of(input, sizes), input.mask ? DataType::kINT32 : type, TensorFormat::kLINEAR, 1.0F});
  return descs;
}

inline PluginTensorDesc output_of(const Letters& sizes, DataType type) {
  return {dims_of({sizes.at('B'), sizes.at('N'), sizes.at('E')}), type, TensorFormat::kLINEAR, 1.0F};
}

using Creators = std::map<std::string, IPluginCreatorV3One*>;

// Runs the plugins on a GPU against the definition in double; says so where there is none.
void gpu_step(const Creators& creators);

}  // namespace playing
