// What an op is to an engine, whichever one: its attributes, its inputs by letters of the glossary, and one call of it.
// An op's contract.h says once how a call becomes the kernel's arguments; the adapters to onnxruntime and TensorRT
// share it.
//
// A contract is a struct with `name`, `attributes()`, `ports()` and `args(const KernelCall&)`, which gives the struct
// of kernel.h. The output has the shape and type of the first activation.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "common/kernel_abi.h"

namespace lat {

// An error in what the user gave: the op, the input or attribute, got and expected.
class BadInput : public std::invalid_argument {
 public:
  using std::invalid_argument::invalid_argument;
};

enum class Storage { activation, int32 };

// An input of an op: letters of the glossary, as the contract in Python has them; one letter is one size in a call.
// A size may also be a product of two letters or a quotient that leaves no rest, as in "H E/H R*T", of letters that
// attributes or inputs before this one have; those of a product are attributes'.
struct Port {
  const char* name;
  const char* dims;
  Storage storage = Storage::activation;
};

enum class Kind { integer, real };

inline constexpr char kNoLetter = 0;

// An attribute of an op. Integers go from `least` to `most`; reals are finite and > 0.
struct Attribute {
  const char* name;
  Kind kind = Kind::integer;
  char letter = kNoLetter;  // an integer's, to which it gives a size
  int64_t least = 1;
  int64_t most = INT32_MAX;
  std::optional<int64_t> absent = std::nullopt;  // an integer's, what it is where a node does not have it
};

// Of an attribute, by its kind.
struct Value {
  int64_t integer = 0;
  float real = 0;
};
// In the order of the op's attributes.
using Values = std::vector<Value>;

// Throws where a value is out of the attribute's bounds.
void demand_bounds(const Attribute& attribute, int64_t value);
void demand_bounds(const Attribute& attribute, double value);

inline const char* name_of(lat_dtype dtype) {
  return dtype == LAT_FLOAT32 ? "float32" : dtype == LAT_FLOAT16 ? "float16" : "bfloat16";
}

std::string shape_text(const int64_t* shape, std::size_t rank);

// The size of every letter in one call.
class Sizes {
 public:
  static constexpr int64_t unknown = -1;

  // Those that attributes give; throws where one is out of its bounds.
  Sizes(const std::vector<Attribute>& attributes, const Values& values);

  // 0 where neither an attribute nor an input had the letter, or none with a known size.
  int64_t operator[](char letter) const { return sizes_[static_cast<unsigned char>(letter)]; }
  // Takes the shape of an input; throws where it has another rank, a size below 1, or one that an attribute or another
  // input belies. With `partly`, unknown sizes are passed over.
  void bind(const Port& port, const int64_t* shape, std::size_t rank, bool partly = false);

 private:
  class Dim;

  int64_t sizes_[128] = {};
};

// One call of an op, as its contract sees it. Sizes by letter, those of attributes too; other attributes, and inputs,
// by their place in the contract.
struct KernelCall {
  const Values& values;
  const Sizes& sizes;
  lat_dtype dtype;
  const void* const* inputs;  // null where only sizes are asked about
  void* output;

  int64_t size(char letter) const { return sizes[letter]; }
  int64_t integer(std::size_t attribute) const { return values[attribute].integer; }
  float real(std::size_t attribute) const { return values[attribute].real; }
  const void* data(std::size_t input) const { return inputs == nullptr ? nullptr : inputs[input]; }
  const int32_t* integers(std::size_t input) const { return static_cast<const int32_t*>(data(input)); }
  // [B, N, E] without gaps.
  lat_rows rows(std::size_t input) const { return rows_at(data(input)); }
  lat_rows output_rows() const { return rows_at(output); }

 private:
  lat_rows rows_at(const void* data) const { return {const_cast<void*>(data), size('N') * size('E'), size('E')}; }
};

// The arguments that ops over query, key, value and a token mask, their first four inputs, have in common.
template <class Args>
Args attention_args(const KernelCall& call) {
  Args args{};
  args.batch = call.size('B');
  args.tokens = call.size('N');
  args.width = call.size('E');
  args.num_heads = call.size('H');
  args.dtype = call.dtype;
  args.query = call.rows(0);
  args.key = call.rows(1);
  args.value = call.rows(2);
  args.attention_mask = call.integers(3);
  args.output = call.output_rows();
  return args;
}

// An op on CUDA devices: its contract and its kernel's two entries (kernel_abi.h).
struct CudaOp {
  const char* name;
  const std::vector<Attribute>& attributes;
  const std::vector<Port>& ports;
  int64_t (*workspace)(const KernelCall& call, lat_status* status);
  void (*run)(const KernelCall& call, void* workspace, void* stream, lat_status* status);
};

template <class Contract, auto entry, auto workspace_entry>
const CudaOp& cuda_op() {
  static const CudaOp op = {Contract::name, Contract::attributes(), Contract::ports(),
                            [](const KernelCall& call, lat_status* status) {
                              const auto args = Contract::args(call);
                              return workspace_entry(&args, status);
                            },
                            [](const KernelCall& call, void* workspace, void* stream, lat_status* status) {
                              const auto args = Contract::args(call);
                              entry(&args, workspace, stream, status);
                            }};
  return op;
}

// Throws what a kernel reported.
void raise(const lat_status& status);

}  // namespace lat
