// A character as UTF-8.
#pragma once

#include <cstdint>
#include <string>

namespace lat_run {

inline void append_utf8(std::string& text, std::uint32_t point) {
  const auto low = [&](int shift) { text += static_cast<char>(0x80 | (point >> shift & 0x3F)); };
  if (point < 0x80) {
    text += static_cast<char>(point);
  } else if (point < 0x800) {
    text += static_cast<char>(0xC0 | point >> 6);
    low(0);
  } else if (point < 0x10000) {
    text += static_cast<char>(0xE0 | point >> 12);
    low(6);
    low(0);
  } else {
    text += static_cast<char>(0xF0 | point >> 18);
    low(12);
    low(6);
    low(0);
  }
}

}  // namespace lat_run
