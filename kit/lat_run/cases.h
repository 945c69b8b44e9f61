// kit.json: what lat-export knows of the model, and the cases that the engine's profile admits.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "compare.h"

namespace lat_run {

// One call of the model with what PyTorch computed for it. Its tensors are PREFIX.inputs.NAME, PREFIX.outputs.NAME and,
// where only some rows are kept, PREFIX.rows in golden.safetensors.
struct Case {
  std::string name;
  std::string prefix;
  std::vector<std::pair<std::string, Bar>> outputs;  // in the order of the model
};

struct Kit {
  std::vector<std::string> inputs;
  std::vector<Case> cases;
  std::int64_t left_out = 0;  // cases of golden.safetensors that the profile does not admit
};

// An `Error` names the file, and what is wrong in it.
Kit read_kit(const std::string& path);

}  // namespace lat_run
