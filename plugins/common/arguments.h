// Checks of what a caller gives a kernel, with messages that say what, got and expected.
#pragma once

#include <cstdint>

#include "common/kernel_abi.h"

namespace lat {

void succeed(lat_status& status);

__attribute__((format(printf, 3, 4))) void fail(lat_status& status, lat_code code, const char* format, ...);

// For a call that found no memory for what it works on.
void no_memory(lat_status& status);

// Checks one after the other; the first that fails writes the status, and later ones do nothing.
class ArgumentCheck {
 public:
  explicit ArgumentCheck(lat_status& status) : status_(status) {}

  bool passed() const { return status_.code == LAT_OK; }

  void dtype(int32_t value);
  void range(const char* name, int64_t value, int64_t least, int64_t most);
  // 1 <= value <= 2^31 - 1
  void size(const char* name, int64_t value);
  void positive(const char* name, float value);
  // H divides E
  void heads(int64_t width, int64_t num_heads);
  void pointer(const char* name, const void* value);
  // [batch, tokens, width] rows: not null, rows that do not overlap, and bytes that an address can count.
  void rows(const char* name, const lat_rows& value, int64_t batch, int64_t tokens, int64_t width);
  // Arrays [a, b, c, d] whose bytes an address can count, with room for padding to whole vectors, times the threads.
  void elements(const char* name, int64_t a, int64_t b, int64_t c = 1, int64_t d = 1);
  // L divides N
  void landmarks(int64_t tokens, int64_t num_landmarks);
  // Taps [num_heads, taps] of a convolution that keeps the length.
  void convolution(int64_t num_heads, int64_t taps);
  // What the ops with query, key, value and output share: sizes, heads, dtype, rows, and that there is a mask.
  // Inline, as a symbol of its own would be one of every instruction set (see cpu_arch.h).
  template <class Args>
  __attribute__((always_inline)) void attention(const Args& args) {
    sizes(args.dtype, args.batch, args.tokens, args.width, args.num_heads);
    attention_rows(args);
  }
  // Of these the part that looks at pointers and strides.
  template <class Args>
  __attribute__((always_inline)) void attention_rows(const Args& args) {
    rows("query", args.query, args.batch, args.tokens, args.width);
    rows("key", args.key, args.batch, args.tokens, args.width);
    rows("value", args.value, args.batch, args.tokens, args.width);
    rows("output", args.output, args.batch, args.tokens, args.width);
    pointer("attention_mask", args.attention_mask);
  }
  void sizes(int32_t dtype, int64_t batch, int64_t tokens, int64_t width, int64_t num_heads);
  // [batch, tokens] of 0, 1, 2
  void token_mask(const int32_t* mask, int64_t batch, int64_t tokens);

 private:
  lat_status& status_;
};

}  // namespace lat
