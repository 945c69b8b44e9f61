// An array as files and engines have it: type, shape and bytes, rows last.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace lat_run {

enum class DType { kFloat32, kFloat16, kBFloat16, kFloat64, kInt32, kInt64, kUInt8 };

using Shape = std::vector<std::int64_t>;

// As kit.json writes it, "float32"; and back. Another name is an `Error`.
const char* name_of(DType dtype);
DType dtype_named(const std::string& name);
std::size_t bytes_of(DType dtype);

// "(2, 17)".
std::string text_of(const Shape& shape);

// Numbers in such an array; a negative size, or more bytes than memory can have, is an `Error`.
std::size_t count_of(const Shape& shape);

struct Array {
  DType dtype = DType::kFloat32;
  Shape shape;
  std::vector<char> bytes;

  std::size_t count() const { return bytes.size() / bytes_of(dtype); }
  // The number at a flat index; whole numbers are exact up to 2^53.
  double number(std::size_t at) const;
};

// Arrays by the names that the model gives them.
using Arrays = std::map<std::string, Array>;

// The indices `keep` of one axis, in that order. An axis or an index that is not there is an `Error`.
Array taken(const Array& array, std::size_t axis, const std::vector<std::int64_t>& keep);

}  // namespace lat_run
