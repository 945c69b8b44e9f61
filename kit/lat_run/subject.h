// What is compared with PyTorch: an engine, or outputs that were written down.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "array.h"
#include "cases.h"

namespace lat_run {

class Subject {
 public:
  virtual ~Subject() = default;
  // For the first line: what it is, and what runs it.
  virtual std::string title() const = 0;
  // All outputs of a case. `RunError` where this case could not be run: then others still may.
  virtual Arrays run(const Case& one, const Arrays& inputs) = 0;
};

class RunError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

// An engine in TensorRT's runtime, on the first GPU; plugin libraries are loaded before it. An `Error` says what is
// missing, or what TensorRT does not take.
std::unique_ptr<Subject> open_engine(const std::string& engine, const std::vector<std::string>& plugins);

// A safetensors file with PREFIX.outputs.NAME, named as in golden.safetensors, every output whole.
std::unique_ptr<Subject> open_recorded(const std::string& path);

}  // namespace lat_run
