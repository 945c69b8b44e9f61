// lat_run: a TensorRT engine against the golden tensors of its kit.
//
//     lat_run KIT --engine FILE [--plugins LIBRARY]...
//     lat_run KIT --outputs FILE
//
// KIT is the folder with kit.json and golden.safetensors. Exit codes: 0 every output of every case is within its
// tolerance; 1 one is not, or a case did not run; 2 a file or an argument is wrong; 3 no GPU, or no TensorRT.
#include <cstdio>

#include "check.h"
#include "error.h"

namespace lat_run {
namespace {

constexpr char kUsage[] =
    "usage: lat_run KIT --engine FILE [--plugins LIBRARY]...\n"
    "       lat_run KIT --outputs FILE\n"
    "\n"
    "  KIT        folder with kit.json and golden.safetensors\n"
    "  --engine   TensorRT engine to run on the first GPU\n"
    "  --plugins  plugin library to load before it\n"
    "  --outputs  safetensors file of outputs, named as in golden.safetensors: compares them, needs no TensorRT\n";

struct Arguments {
  std::string kit, engine, outputs;
  std::vector<std::string> plugins;
};

Arguments read_arguments(int count, char** words) {
  Arguments found;
  for (int at = 1; at < count; ++at) {
    const std::string word = words[at];
    const bool option = word == "--engine" || word == "--plugins" || word == "--outputs";
    if (!option) {
      if (!found.kit.empty() || word.rfind("--", 0) == 0) throw Error("unknown argument " + word + "\n" + kUsage);
      found.kit = word;
      continue;
    }
    if (++at == count) throw Error(word + " needs a file\n" + kUsage);
    if (word == "--plugins") found.plugins.emplace_back(words[at]);
    if (word == "--engine") found.engine = words[at];
    if (word == "--outputs") found.outputs = words[at];
  }
  if (found.kit.empty() || found.engine.empty() == found.outputs.empty())
    throw Error(std::string("a kit, and an engine or a file of outputs\n") + kUsage);
  return found;
}

ExitCode run(const Arguments& arguments) {
  const auto open = [&] {
    return arguments.engine.empty() ? open_recorded(arguments.outputs)
                                    : open_engine(arguments.engine, arguments.plugins);
  };
  return check(arguments.kit, open);
}

}  // namespace
}  // namespace lat_run

int main(int count, char** words) {
  try {
    return lat_run::run(lat_run::read_arguments(count, words));
  } catch (const lat_run::Error& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return error.code();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return lat_run::kBadInput;
  }
}
