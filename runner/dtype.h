// Element types by name and size. A caller of the C ABI may have put any number in their place.
#pragma once

#include <cstddef>
#include <cstdint>

#include "lat_runner.h"

namespace lat_edge {

struct NamedType {
  lat_dtype dtype;
  const char* name;
  std::size_t bytes;
};

constexpr NamedType kTypes[] = {{LAT_FLOAT32, "float32", 4}, {LAT_FLOAT16, "float16", 2}, {LAT_INT64, "int64", 8}};

inline std::size_t bytes_of(std::int32_t dtype) {
  for (const NamedType& type : kTypes)
    if (type.dtype == dtype) return type.bytes;
  return 0;
}

inline const char* name_of(std::int32_t dtype) {
  for (const NamedType& type : kTypes)
    if (type.dtype == dtype) return type.name;
  return "an unknown type";
}

}  // namespace lat_edge
