// UTF-8 and the white space of Unicode.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace lat_edge {

// Code points of a text; a `Failure` where it is no UTF-8.
std::vector<std::uint32_t> points_of(const std::string& text);

// Points `first` to `end` as UTF-8.
std::string utf8_of(const std::vector<std::uint32_t>& points, std::size_t first, std::size_t end);

// Bytes that may be no UTF-8 as text: each longest part that no character continues becomes U+FFFD.
std::string lossy(const std::string& bytes);

// Unicode's White_Space.
bool is_space(std::uint32_t point);

// Without white space at both ends, as Python's str.strip.
std::string stripped(const std::vector<std::uint32_t>& points, std::size_t first, std::size_t end);

}  // namespace lat_edge
