// A safetensors file: eight bytes of a length, a JSON header of that length, then the tensors' bytes, all
// little-endian. Source: https://github.com/huggingface/safetensors, "Format".
#pragma once

#include <cstdint>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "array.h"

namespace lat_run {

class TensorFile {
 public:
  // Reads the header, and checks that its tensors fill the file exactly; no tensor is read. An `Error` names the file.
  explicit TensorFile(const std::string& path);

  bool has(const std::string& name) const { return entries_.count(name) != 0; }
  std::vector<std::string> names() const;
  // One tensor; a name that is not there, or a type that this program does not know, is an `Error`.
  Array read(const std::string& name);

 private:
  struct Entry {
    std::string dtype;  // as the file writes it, "F32"
    Shape shape;
    std::uint64_t begin = 0, end = 0;  // in the data
  };

  [[noreturn]] void fail(const std::string& why) const;
  void read_header(std::uint64_t file_bytes);
  void check_places(std::uint64_t data_bytes) const;

  std::string path_;
  std::ifstream stream_;
  std::uint64_t data_at_ = 0;
  std::map<std::string, Entry> entries_;
};

}  // namespace lat_run
