// What the host knows of each op: its fields, its inputs, what it refuses, and what its kernel is to be given.
#pragma once

#include <functional>

#include "host.h"

namespace playing {

struct Bad {
  Fields fields;
  std::vector<std::string> words;
};

struct OpCase {
  const char* name;
  const char* entry;
  Fields fields;
  std::vector<Input> inputs;
  std::vector<std::pair<const char*, PluginFieldType>> field_names;
  std::vector<Bad> bad_fields;
  // The kernel's arguments for B=2, N=37, E=96 and these inputs and output.
  std::function<void(const unsigned char* args, DataType type, const std::vector<const void*>& inputs, void* output)>
      check_args;
  // Fields without those that may be absent, and what such a plugin says that it was made of.
  Fields fields_by_default = {};
  std::string written_by_default = {};
  // In what is said of E = 97.
  std::vector<std::string> odd_width = {"E=97", "num_heads=3"};
};

// H and K of weights; h, d, p: H, E/H and R*T of LshCumulation.
inline Letters letters(int64_t batch, int64_t tokens) {
  return {{'B', batch}, {'N', tokens}, {'E', 96}, {'H', 3}, {'K', 5}, {'h', 3}, {'d', 32}, {'p', 20}};
}

inline const Letters kLeast = letters(1, 1), kCommon = letters(2, 37), kMost = letters(4, 128);

inline Letters with(Letters sizes, char letter, int64_t size) {
  sizes[letter] = size;
  return sizes;
}

std::vector<OpCase> op_cases();

}  // namespace playing
