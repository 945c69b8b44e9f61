// Checks of what a caller gives a kernel, with messages that say what, got and expected.
#pragma once

#include <cstdint>

#include "common/kernel_abi.h"

namespace lat {

void succeed(lat_status& status);

__attribute__((format(printf, 3, 4))) void fail(lat_status& status, lat_code code, const char* format, ...);

// Checks one after the other; the first that fails writes the status, and later ones do nothing.
class ArgumentCheck {
 public:
  explicit ArgumentCheck(lat_status& status) : status_(status) {}

  bool passed() const { return status_.code == LAT_OK; }

  void dtype(int32_t value);
  // 1 <= value <= 2^31 - 1
  void size(const char* name, int64_t value);
  void positive(const char* name, float value);
  // H divides E
  void heads(int64_t width, int64_t num_heads);
  void pointer(const char* name, const void* value);
  // [batch, tokens, width] rows: not null, rows that do not overlap, and bytes that an address can count.
  void rows(const char* name, const lat_rows& value, int64_t batch, int64_t tokens, int64_t width);
  // [batch, tokens] of 0, 1, 2
  void token_mask(const int32_t* mask, int64_t batch, int64_t tokens);

 private:
  lat_status& status_;
};

}  // namespace lat
