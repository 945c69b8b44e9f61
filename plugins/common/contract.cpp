#include "common/contract.h"

#include <cmath>
#include <cstdio>
#include <cstring>

namespace lat {
namespace {

std::string real_text(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%g", value);
  return text;
}

}  // namespace

void demand_bounds(const Attribute& attribute, int64_t value) {
  if (value >= attribute.least && value <= attribute.most) return;
  throw BadInput(std::string(attribute.name) + ": got " + std::to_string(value) + ", expected " +
                 std::to_string(attribute.least) + " to " + std::to_string(attribute.most));
}

void demand_bounds(const Attribute& attribute, double value) {
  if (value > 0 && std::isfinite(value)) return;
  throw BadInput(std::string(attribute.name) + ": got " + real_text(value) + ", expected a finite number > 0");
}

std::string shape_text(const int64_t* shape, std::size_t rank) {
  std::string text = "[";
  for (std::size_t at = 0; at < rank; ++at) text += (at ? ", " : "") + std::to_string(shape[at]);
  return text + "]";
}

void Sizes::bind(const Port& port, const int64_t* shape, std::size_t rank, bool partly) {
  const std::size_t expected_rank = std::strlen(port.dims);
  bool fits = rank == expected_rank;
  for (std::size_t at = 0; fits && at < rank; ++at) {
    if (partly && shape[at] == unknown) continue;
    int64_t& size = sizes_[static_cast<unsigned char>(port.dims[at])];
    if (size == 0) size = shape[at];
    fits = shape[at] >= 1 && size == shape[at];
  }
  if (fits) return;
  std::string expected = "[";
  for (std::size_t at = 0; at < expected_rank; ++at) {
    const int64_t size = (*this)[port.dims[at]];
    expected += (at ? ", " : "") + std::string(1, port.dims[at]) + (size > 0 ? "=" + std::to_string(size) : ">=1");
  }
  throw BadInput(std::string("input ") + port.name + ": got shape " + shape_text(shape, rank) + ", expected " +
                 expected + "]");
}

void raise(const lat_status& status) {
  if (status.code == LAT_OK) return;
  if (status.code == LAT_BAD_ARGUMENT) throw BadInput(status.message);
  throw std::runtime_error(status.message);
}

}  // namespace lat
