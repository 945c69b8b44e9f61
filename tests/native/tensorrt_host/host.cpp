// Plays TensorRT to a plugin library: create, types, shapes, formats, configure, workspace, attach, shape change,
// enqueue, serialise, recreate, and every refusal.
//
//     tensorrt_host LIBRARY recording    with the recording test doubles: every argument that reaches a kernel
//     tensorrt_host LIBRARY kernels      with the real kernels: on a GPU their outputs, where there is one
#include "host.h"

#include <dlfcn.h>

#include "common/contract.h"
#include "op_cases.h"
#include "recording.h"

namespace playing {

namespace {
Logger logger;
}

std::vector<std::string>& logged() { return logger.errors; }

namespace {

constexpr DataType kTypes[] = {DataType::kFLOAT, DataType::kHALF, DataType::kBF16};

// Exactly one error was logged since the last look, and it has every one of these words.
void expect_error(const std::vector<std::string>& words) {
  EXPECT(logged().size() == 1);
  for (const std::string& word : words) {
    if (logged()[0].find(word) == std::string::npos) std::fprintf(stderr, "no \"%s\" in the message\n", word.c_str());
    EXPECT(logged()[0].find(word) != std::string::npos);
  }
  logged().clear();
}

Made make(IPluginCreatorV3One& creator, const Fields& fields, TensorRTPhase phase = TensorRTPhase::kBUILD) {
  const PluginFieldCollection collection = fields.collection();
  return Made(creator.createPlugin("layer 3", &collection, phase));
}

void check_creator(IPluginCreatorV3One& creator, const OpCase& op) {
  EXPECT(std::string(creator.getPluginName()) == op.name);
  EXPECT(std::string(creator.getPluginNamespace()) == "lat");
  EXPECT(std::string(creator.getPluginVersion()) == "1");
  const PluginFieldCollection* names = creator.getFieldNames();
  EXPECT(names->nbFields == static_cast<int32_t>(op.field_names.size()));
  for (int32_t at = 0; at < names->nbFields; ++at) {
    EXPECT(std::string(names->fields[at].name) == op.field_names[at].first);
    EXPECT(names->fields[at].type == op.field_names[at].second);
  }

  EXPECT(!Made(creator.createPlugin("layer 3", nullptr, TensorRTPhase::kBUILD)).plugin);
  expect_error({op.name, "no fields"});
  for (const Bad& bad : op.bad_fields) {
    EXPECT(!make(creator, bad.fields).plugin);
    std::vector<std::string> words = bad.words;
    words.push_back(std::string("lat::") + op.name + " (layer 3)");
    expect_error(words);
  }
  Fields with_names = op.fields;
  EXPECT(make(creator, with_names.add("plugin_namespace", "lat").add("plugin_version", "1")).plugin);
  if (!op.written_by_default.empty()) {
    const Made by_default = make(creator, op.fields_by_default);
    EXPECT(by_default.plugin && op.written_by_default == by_default.build->getTimingCacheID());
    EXPECT(by_default.runtime->getFieldsToSerialize()->nbFields == static_cast<int32_t>(op.field_names.size()));
  }
  EXPECT(logged().empty());
}

void check_faces(const Made& made, const OpCase& op) {
  EXPECT(made.plugin && made.core && made.build && made.runtime);
  EXPECT(std::string(made.plugin->getInterfaceInfo().kind) == "PLUGIN");
  EXPECT(std::string(made.core->getInterfaceInfo().kind) == "PLUGIN_V3ONE_CORE");
  EXPECT(std::string(made.build->getInterfaceInfo().kind) == "PLUGIN_V3ONE_BUILD");
  EXPECT(std::string(made.runtime->getInterfaceInfo().kind) == "PLUGIN_V3ONE_RUNTIME");
  EXPECT(made.plugin->getCapabilityInterface(static_cast<PluginCapabilityType>(7)) == nullptr);
  EXPECT(std::string(made.core->getPluginName()) == op.name);
  EXPECT(std::string(made.core->getPluginNamespace()) == "lat");
  EXPECT(std::string(made.core->getPluginVersion()) == "1");
  EXPECT(made.build->getNbOutputs() == 1);
  EXPECT(made.build->getNbTactics() == 0);
}

void check_types(const Made& made, const OpCase& op) {
  const auto count = static_cast<int32_t>(op.inputs.size());
  for (DataType type : kTypes) {
    std::vector<DataType> types;
    for (const Input& input : op.inputs) types.push_back(input.mask ? DataType::kINT32 : type);
    DataType output = DataType::kINT8;
    EXPECT(made.build->getOutputDataTypes(&output, 1, types.data(), count) == 0);
    EXPECT(output == type);
    EXPECT(made.build->getOutputDataTypes(&output, 1, types.data(), count - 1) != 0);
    expect_error({op.inputs[0].name, "expected " + std::to_string(count)});
  }
}

void check_shapes(const Made& made, const OpCase& op) {
  Expressions builder;
  const std::map<char, const IDimensionExpr*> letters = {
      {'B', builder.symbol("batch")}, {'N', builder.symbol("tokens")}, {'E', builder.number(96)},
      {'H', builder.number(3)},       {'K', builder.number(5)},        {'h', builder.number(3)},
      {'d', builder.number(32)},      {'p', builder.number(20)}};
  const auto count = static_cast<int32_t>(op.inputs.size());
  std::vector<DimsExprs> inputs;
  for (const Input& input : op.inputs) {
    DimsExprs dims{};
    for (const char* letter = input.letters; *letter; ++letter) dims.d[dims.nbDims++] = letters.at(*letter);
    inputs.push_back(dims);
  }
  DimsExprs output{};
  EXPECT(made.build->getOutputShapes(inputs.data(), count, nullptr, 0, &output, 1, builder) == 0);
  EXPECT(output.nbDims == 3);
  EXPECT(static_cast<const Dimension*>(output.d[0])->symbol() == "batch");
  EXPECT(static_cast<const Dimension*>(output.d[1])->symbol() == "tokens");
  EXPECT(output.d[2]->isConstant() && output.d[2]->getConstantValue() == 96);
  EXPECT(logged().empty());

  EXPECT(made.build->getOutputShapes(inputs.data(), count, inputs.data(), 1, &output, 1, builder) != 0);
  expect_error({"expected " + std::to_string(count)});
  // Another width than the first activation's, in the last input that has one.
  std::size_t last = inputs.size() - 1;
  while (std::strchr(op.inputs[last].letters, 'E') == nullptr) --last;
  inputs[last].d[inputs[last].nbDims - 1] = builder.number(95);
  EXPECT(made.build->getOutputShapes(inputs.data(), count, nullptr, 0, &output, 1, builder) != 0);
  expect_error({op.inputs[last].name, "95"});
}

// Walks through every type and format as TensorRT does, position by position;
// what comes after a position is garbage.
void walk_formats(const Made& made, const OpCase& op, std::vector<DynamicPluginTensorDesc>& tensors, int32_t position,
                  std::vector<std::vector<DynamicPluginTensorDesc>>& accepted) {
  const auto inputs = static_cast<int32_t>(op.inputs.size());
  if (position > inputs) {
    accepted.push_back(tensors);
    return;
  }
  for (int32_t type = 0; type < EnumMax<DataType>(); ++type) {
    for (int32_t format = 0; format < EnumMax<TensorFormat>(); ++format) {
      PluginTensorDesc& desc = tensors[static_cast<std::size_t>(position)].desc;
      desc.type = static_cast<DataType>(type);
      desc.format = static_cast<TensorFormat>(format);
      if (made.build->supportsFormatCombination(position, tensors.data(), inputs, 1))
        walk_formats(made, op, tensors, position + 1, accepted);
    }
  }
  tensors[static_cast<std::size_t>(position)].desc.type = DataType::kINT8;
  tensors[static_cast<std::size_t>(position)].desc.format = TensorFormat::kCHW32;
}

void check_formats(const Made& made, const OpCase& op) {
  std::vector<DynamicPluginTensorDesc> tensors(op.inputs.size() + 1);
  std::vector<std::vector<DynamicPluginTensorDesc>> accepted;
  walk_formats(made, op, tensors, 0, accepted);
  EXPECT(accepted.size() == 3);
  for (std::size_t each = 0; each < 3; ++each) {
    for (std::size_t at = 0; at < tensors.size(); ++at) {
      const bool mask = at < op.inputs.size() && op.inputs[at].mask;
      EXPECT(accepted[each][at].desc.format == TensorFormat::kLINEAR);
      EXPECT(accepted[each][at].desc.type == (mask ? DataType::kINT32 : kTypes[each]));
    }
  }
  const auto inputs = static_cast<int32_t>(op.inputs.size());
  EXPECT(!made.build->supportsFormatCombination(-1, tensors.data(), inputs, 1));
  EXPECT(!made.build->supportsFormatCombination(inputs + 1, tensors.data(), inputs, 1));
  EXPECT(!made.build->supportsFormatCombination(0, tensors.data(), inputs - 1, 1));
  EXPECT(!made.build->supportsFormatCombination(0, tensors.data(), inputs, 2));
}

struct Profile {
  Profile(const OpCase& op, DataType type, const Letters& most) {
    for (const Input& input : op.inputs) {
      Letters wildcard = kCommon;
      wildcard['B'] = wildcard['N'] = -1;
      inputs.push_back({{dims_of(input, wildcard), input.mask ? DataType::kINT32 : type, TensorFormat::kLINEAR, 1.0F},
                        dims_of(input, kLeast),
                        dims_of(input, most),
                        dims_of(input, kCommon)});
    }
    output = {output_of(kCommon, type), output_of(kLeast, type).dims, output_of(most, type).dims,
              output_of(kCommon, type).dims};
    output.desc.dims.d[0] = output.desc.dims.d[1] = -1;
  }
  std::vector<DynamicPluginTensorDesc> inputs;
  DynamicPluginTensorDesc output{};
};

std::size_t check_build(const Made& made, const OpCase& op, bool recording) {
  const auto count = static_cast<int32_t>(op.inputs.size());
  std::size_t largest = 0;
  for (DataType type : kTypes) {
    const Profile profile(op, type, kMost);
    EXPECT(made.build->configurePlugin(profile.inputs.data(), count, &profile.output, 1) == 0);
    const std::size_t bytes = made.build->getWorkspaceSize(profile.inputs.data(), count, &profile.output, 1);
    // That of the recording kernels, at the maximum, with room to align it.
    if (recording) EXPECT(bytes == sizeof(Recording) + 4 * 1000000 + 128 + 255);
    const Profile small(op, type, kCommon);
    EXPECT(bytes > 0 && made.build->getWorkspaceSize(small.inputs.data(), count, &small.output, 1) <= bytes);
    if (bytes > largest) largest = bytes;
  }
  EXPECT(logged().empty());

  const Profile odd_width(op, DataType::kFLOAT, with(kMost, 'E', 97));
  EXPECT(made.build->configurePlugin(odd_width.inputs.data(), count, &odd_width.output, 1) != 0);
  expect_error(op.odd_width);
  EXPECT(made.build->getWorkspaceSize(odd_width.inputs.data(), count, &odd_width.output, 1) == 0);
  expect_error(op.odd_width);
  const Profile wide_heads(op, DataType::kFLOAT, with(with(kMost, 'E', 3 * 256), 'd', 256));
  EXPECT(made.build->configurePlugin(wide_heads.inputs.data(), count, &wide_heads.output, 1) != 0);
  expect_error({"D=256"});
  Profile other_type(op, DataType::kINT8, kMost);
  EXPECT(made.build->configurePlugin(other_type.inputs.data(), count, &other_type.output, 1) != 0);
  expect_error({op.inputs[0].name, "float32, float16 or bfloat16"});
  return largest;
}

void check_shape_changes(const Made& made, const OpCase& op) {
  const auto count = static_cast<int32_t>(op.inputs.size());
  const auto change = [&](const std::vector<PluginTensorDesc>& descs, int32_t inputs) {
    const PluginTensorDesc output = output_of(kCommon, DataType::kHALF);
    return made.runtime->onShapeChange(descs.data(), inputs, &output, 1);
  };
  for (const Letters& sizes : {kLeast, kCommon, kMost, with(kMost, 'N', 100000)})
    EXPECT(change(descs_of(op.inputs, sizes, DataType::kHALF), count) == 0);
  EXPECT(logged().empty());

  const auto good = descs_of(op.inputs, kCommon, DataType::kHALF);
  EXPECT(change(good, count - 1) != 0);
  expect_error({"expected " + std::to_string(count)});
  for (std::size_t input = 0; input < good.size(); ++input) {
    auto bad = good;
    bad[input].dims.nbDims -= 1;
    EXPECT(change(bad, count) != 0);
    expect_error({std::string("input ") + op.inputs[input].name, "got shape"});
    for (int32_t at = 0; at < good[input].dims.nbDims; ++at) {
      for (int64_t size : {int64_t{0}, int64_t{-1}, good[input].dims.d[at] + 1}) {
        // The taps of a convolution: nothing else tells how many there are.
        if (size > 0 && op.inputs[input].letters[at] == 'K') continue;
        bad = good;
        bad[input].dims.d[at] = size;
        // The first input that has a letter gives its size: then it is another
        // that does not fit.
        EXPECT(change(bad, count) != 0);
        expect_error({"got shape", "expected ["});
      }
    }
  }
  EXPECT(change(descs_of(op.inputs, with(kCommon, 'E', 97), DataType::kHALF), count) != 0);
  expect_error(op.odd_width);
}

void check_recorded(const Made& made, const OpCase& op, std::size_t workspace_bytes) {
  for (DataType type : kTypes) {
    const auto descs = descs_of(op.inputs, kCommon, type);
    const PluginTensorDesc output_desc = output_of(kCommon, type);
    std::vector<char> bytes(op.inputs.size() + 1);
    std::vector<const void*> inputs;
    for (std::size_t at = 0; at < op.inputs.size(); ++at) inputs.push_back(&bytes[at]);
    void* output = &bytes.back();
    const auto stream = reinterpret_cast<cudaStream_t>(&bytes);
    std::vector<char> workspace(workspace_bytes);
    for (std::size_t shift : {0, 1, 8, 255}) {
      // Whatever address TensorRT gives, the kernel gets an aligned one within
      // it.
      char* given = workspace.data() + shift;
      if (workspace_bytes - shift < sizeof(Recording) + 255) continue;
      EXPECT(made.runtime->enqueue(descs.data(), &output_desc, inputs.data(), &output, given, stream) == 0);
      const std::size_t past = reinterpret_cast<std::uintptr_t>(given) % 256;
      Recording recording;
      std::memcpy(&recording, past == 0 ? given : given + (256 - past), sizeof recording);
      EXPECT(std::string(recording.entry) == op.entry);
      EXPECT(reinterpret_cast<std::uintptr_t>(recording.workspace) % 256 == 0);
      EXPECT(recording.stream == stream);
      op.check_args(recording.args, type, inputs, output);
    }
    EXPECT(logged().empty());
    EXPECT(made.runtime->enqueue(descs.data(), &output_desc, inputs.data(), &output, workspace.data(),
                                 static_cast<cudaStream_t>(failing_stream())) != 0);
    expect_error({op.name, "CUDA, launch: it said no"});
    auto bad = descs;
    bad[1].dims.d[1] += 1;
    EXPECT(made.runtime->enqueue(bad.data(), &output_desc, inputs.data(), &output, workspace.data(), stream) != 0);
    expect_error({"got shape"});
  }
}

void expect_same_fields(const PluginFieldCollection& a, const PluginFieldCollection& b) {
  EXPECT(a.nbFields == b.nbFields);
  for (int32_t at = 0; at < a.nbFields; ++at) {
    EXPECT(std::string(a.fields[at].name) == b.fields[at].name);
    EXPECT(a.fields[at].type == b.fields[at].type && a.fields[at].length == 1 && b.fields[at].length == 1);
    EXPECT(a.fields[at].data != b.fields[at].data);
    EXPECT(std::memcmp(a.fields[at].data, b.fields[at].data, 4) == 0);
  }
}

// What is written into an engine makes the same plugin again, and so do clone()
// and attachToContext().
Made check_copies(IPluginCreatorV3One& creator, const OpCase& op) {
  Made first = make(creator, op.fields);
  const PluginFieldCollection* fields = first.runtime->getFieldsToSerialize();
  const std::string timing = first.build->getTimingCacheID();
  EXPECT(timing.find("num_heads=3") != std::string::npos && timing == first.build->getMetadataString());
  Made again(creator.createPlugin("layer 3", fields, TensorRTPhase::kRUNTIME));
  Made cloned(first.plugin->clone());
  Resources resources;
  Made attached(first.runtime->attachToContext(&resources));
  for (const Made* copy : {&again, &cloned, &attached}) {
    check_faces(*copy, op);
    expect_same_fields(*fields, *copy->runtime->getFieldsToSerialize());
    EXPECT(timing == copy->build->getTimingCacheID());
  }
  EXPECT(fields->nbFields == static_cast<int32_t>(op.field_names.size()));
  EXPECT(logged().empty());
  return Made(attached.plugin.release());  // outlives the plugin that it was attached from
}

void check_op(IPluginCreatorV3One& creator, const OpCase& op, bool recording) {
  check_creator(creator, op);
  const Made made = make(creator, op.fields);
  check_faces(made, op);
  check_types(made, op);
  check_shapes(made, op);
  check_formats(made, op);
  const std::size_t workspace_bytes = check_build(made, op, recording);
  const Made attached = check_copies(creator, op);
  check_shape_changes(attached, op);
  if (recording) check_recorded(attached, op, workspace_bytes);
  std::printf("lat::%s: every step but the GPU's\n", op.name);
}

// Sizes that attributes give, products and quotients, while a network is made:
// some are known and some are not.
void check_sizes() {
  const lat::Port hidden = {"hidden", "BNE"}, projection = {"projection", "H E/H R*T"};
  const auto told = [&](int64_t heads, std::vector<int64_t> first, std::vector<int64_t> second) -> std::string {
    try {
      lat::Sizes sizes(
          {{"heads", lat::Kind::integer, 'H'}, {"r", lat::Kind::integer, 'R'}, {"t", lat::Kind::integer, 'T', 1, 16}},
          {{heads}, {5}, {4}});
      sizes.bind(hidden, first.data(), first.size(), true);
      sizes.bind(projection, second.data(), second.size(), true);
      return "";
    } catch (const lat::BadInput& error) {
      return error.what();
    }
  };
  EXPECT(told(2, {-1, -1, 32}, {2, 16, 20}).empty());
  EXPECT(told(2, {-1, -1, 32}, {-1, -1, -1}).empty());
  EXPECT(told(2, {-1, -1, -1}, {2, 15, 20}).empty());
  const std::string expected = ", expected [H=2, E/H=16, R*T=20]";
  EXPECT(told(2, {-1, -1, 32}, {-1, 15, -1}) == "input projection: got shape [-1, 15, -1]" + expected);
  EXPECT(told(2, {-1, -1, 32}, {3, 16, 20}) == "input projection: got shape [3, 16, 20]" + expected);
  EXPECT(told(2, {-1, -1, 32}, {2, 16}) == "input projection: got shape [2, 16]" + expected);
  EXPECT(told(2, {-1, -1, -1}, {2, 16, 21}) ==
         "input projection: got shape [2, 16, 21], expected [H=2, E/H>=1, "
         "R*T=20]");
  EXPECT(told(3, {-1, -1, 32}, {3, 10, 20}) ==
         "input projection: got shape [3, 10, 20], expected [H=3, E/H=32/3, "
         "R*T=20]");
  EXPECT(told(0, {-1, -1, 32}, {2, 16, 20}) == "heads: got 0, expected 1 to 2147483647");
}

template <class Function>
Function* symbol(void* library, const char* name) {
  void* found = dlsym(library, name);
  EXPECT(found != nullptr);
  return reinterpret_cast<Function*>(found);
}

int run(const char* path, bool recording) {
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    std::fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
  static LoggerFinder finder(logger);
  symbol<void(ILoggerFinder*)>(library, "setLoggerFinder")(&finder);
  int32_t count = 0;
  IPluginCreatorInterface* const* listed =
      symbol<IPluginCreatorInterface* const*(int32_t&)>(library, "getCreators")(count);
  Creators creators;
  for (int32_t at = 0; at < count; ++at) {
    EXPECT(std::string(listed[at]->getInterfaceInfo().kind) == "PLUGIN CREATOR_V3ONE");
    auto* creator = static_cast<IPluginCreatorV3One*>(listed[at]);
    creators[creator->getPluginName()] = creator;
  }
  EXPECT(creators.size() == static_cast<std::size_t>(count));
  check_sizes();
  for (const OpCase& op : op_cases()) {
    EXPECT(creators.count(op.name) == 1);
    check_op(*creators[op.name], op, recording);
  }
  if (!recording) gpu_step(creators);
  std::printf("TensorRT %d.%d headers: done\n", NV_TENSORRT_MAJOR, NV_TENSORRT_MINOR);
  return 0;
}

}  // namespace
}  // namespace playing

// TensorRT says which one it is.
extern "C" __attribute__((visibility("default"))) int32_t getInferLibMajorVersion() noexcept {
  return NV_TENSORRT_MAJOR;
}

int main(int count, char** words) {
  const std::string kind = count == 3 ? words[2] : "";
  if (kind != "recording" && kind != "kernels") {
    std::fprintf(stderr, "usage: tensorrt_host LIBRARY recording|kernels\n");
    return 2;
  }
  return playing::run(words[1], kind == "recording");
}
