#include "array.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "error.h"

namespace lat_run {
namespace {

struct Named {
  DType dtype;
  const char* name;
  std::size_t bytes;
};

constexpr Named kTypes[] = {{DType::kFloat32, "float32", 4},   {DType::kFloat16, "float16", 2},
                            {DType::kBFloat16, "bfloat16", 2}, {DType::kFloat64, "float64", 8},
                            {DType::kInt32, "int32", 4},       {DType::kInt64, "int64", 8},
                            {DType::kUInt8, "uint8", 1}};

const Named& entry(DType dtype) {
  for (const Named& type : kTypes)
    if (type.dtype == dtype) return type;
  throw Error("an unknown element type");
}

template <class T>
T as(const char* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

double of_half(std::uint16_t bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  const double sign = bits >> 15 != 0 ? -1.0 : 1.0;
  if (exponent == 31) return fraction != 0 ? std::numeric_limits<double>::quiet_NaN() : sign * HUGE_VAL;
  if (exponent == 0) return sign * std::ldexp(fraction, -24);
  return sign * std::ldexp(fraction + 1024, exponent - 25);
}

double of_bfloat16(std::uint16_t bits) {
  const std::uint32_t wide = static_cast<std::uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, sizeof value);
  return static_cast<double>(value);
}

}  // namespace

const char* name_of(DType dtype) { return entry(dtype).name; }

std::size_t bytes_of(DType dtype) { return entry(dtype).bytes; }

DType dtype_named(const std::string& name) {
  for (const Named& type : kTypes)
    if (name == type.name) return type.dtype;
  throw Error("an unknown element type: " + name);
}

std::string text_of(const Shape& shape) {
  std::string text = "(";
  for (std::size_t at = 0; at < shape.size(); ++at) text += (at != 0 ? ", " : "") + std::to_string(shape[at]);
  return text + ")";
}

std::size_t count_of(const Shape& shape) {
  // Eight bytes a number must fit into a signed count.
  constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max() / 8;
  std::int64_t count = 1;
  bool empty = false;
  for (const std::int64_t size : shape) {
    if (size < 0) throw Error("a negative size: " + text_of(shape));
    if (size == 0) empty = true;
    if (size > 1 && count > most / size) throw Error("a shape too large for memory: " + text_of(shape));
    if (size > 1) count *= size;
  }
  return empty ? 0 : static_cast<std::size_t>(count);
}

double Array::number(std::size_t at) const {
  const char* place = bytes.data() + at * bytes_of(dtype);
  switch (dtype) {
    case DType::kFloat32:
      return static_cast<double>(as<float>(place));
    case DType::kFloat16:
      return of_half(as<std::uint16_t>(place));
    case DType::kBFloat16:
      return of_bfloat16(as<std::uint16_t>(place));
    case DType::kFloat64:
      return as<double>(place);
    case DType::kInt32:
      return as<std::int32_t>(place);
    case DType::kInt64:
      return static_cast<double>(as<std::int64_t>(place));
    case DType::kUInt8:
      return as<std::uint8_t>(place);
  }
  throw Error("an unknown element type");
}

Array taken(const Array& array, std::size_t axis, const std::vector<std::int64_t>& keep) {
  if (axis >= array.shape.size()) throw Error("no axis " + std::to_string(axis) + " in " + text_of(array.shape));
  const std::int64_t size = array.shape[axis];
  const Shape before(array.shape.begin(), array.shape.begin() + static_cast<std::ptrdiff_t>(axis));
  const Shape after(array.shape.begin() + static_cast<std::ptrdiff_t>(axis) + 1, array.shape.end());
  const std::size_t blocks = count_of(before), block = count_of(after) * bytes_of(array.dtype);
  Array found{array.dtype, array.shape, {}};
  found.shape[axis] = static_cast<std::int64_t>(keep.size());
  found.bytes.reserve(blocks * keep.size() * block);
  for (std::size_t at = 0; at < blocks; ++at) {
    for (const std::int64_t index : keep) {
      if (index < 0 || index >= size)
        throw Error("no index " + std::to_string(index) + " in axis " + std::to_string(axis) + " of " +
                    text_of(array.shape));
      const char* first =
          array.bytes.data() + (at * static_cast<std::size_t>(size) + static_cast<std::size_t>(index)) * block;
      found.bytes.insert(found.bytes.end(), first, first + block);
    }
  }
  return found;
}

}  // namespace lat_run
