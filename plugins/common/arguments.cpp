#include "common/arguments.h"

#include <cinttypes>
#include <cmath>
#include <cstdarg>
#include <cstdio>

namespace lat {
namespace {

constexpr int64_t kLargestSize = INT32_MAX;
// The address space of a process on the 64-bit machines of today.
constexpr int64_t kLargestElements = int64_t{1} << 45;

}  // namespace

void succeed(lat_status& status) {
  status.code = LAT_OK;
  status.message[0] = 0;
}

void fail(lat_status& status, lat_code code, const char* format, ...) {
  status.code = code;
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(status.message, sizeof status.message, format, arguments);
  va_end(arguments);
}

void no_memory(lat_status& status) { fail(status, LAT_NO_MEMORY, "no memory for scratch"); }

void ArgumentCheck::dtype(int32_t value) {
  if (passed() && value != LAT_FLOAT32 && value != LAT_FLOAT16 && value != LAT_BFLOAT16)
    fail(status_, LAT_BAD_ARGUMENT, "dtype: got %" PRId32 ", expected 0 (float32), 1 (float16) or 2 (bfloat16)", value);
}

void ArgumentCheck::range(const char* name, int64_t value, int64_t least, int64_t most) {
  if (passed() && (value < least || value > most))
    fail(status_, LAT_BAD_ARGUMENT, "%s: got %" PRId64 ", expected %" PRId64 " to %" PRId64, name, value, least, most);
}

void ArgumentCheck::size(const char* name, int64_t value) { range(name, value, 1, kLargestSize); }

void ArgumentCheck::positive(const char* name, float value) {
  if (passed() && !(value > 0 && std::isfinite(value)))
    fail(status_, LAT_BAD_ARGUMENT, "%s: got %g, expected a finite number > 0", name, static_cast<double>(value));
}

void ArgumentCheck::sizes(int32_t dtype, int64_t batch, int64_t tokens, int64_t width, int64_t num_heads) {
  this->dtype(dtype);
  size("B", batch);
  size("N", tokens);
  size("E", width);
  size("num_heads", num_heads);
  heads(width, num_heads);
}

void ArgumentCheck::heads(int64_t width, int64_t num_heads) {
  if (passed() && width % num_heads != 0)
    fail(status_, LAT_BAD_ARGUMENT, "num_heads: got E=%" PRId64 ", num_heads=%" PRId64 ", expected E %% num_heads == 0",
         width, num_heads);
}

void ArgumentCheck::pointer(const char* name, const void* value) {
  if (passed() && value == nullptr)
    fail(status_, LAT_BAD_ARGUMENT, "%s: got a null pointer, expected an address", name);
}

void ArgumentCheck::landmarks(int64_t tokens, int64_t num_landmarks) {
  size("num_landmarks", num_landmarks);
  if (passed() && tokens % num_landmarks != 0)
    fail(status_, LAT_BAD_ARGUMENT, "num_landmarks: got N=%" PRId64 ", L=%" PRId64 ", expected N %% L == 0", tokens,
         num_landmarks);
}

void ArgumentCheck::convolution(int64_t num_heads, int64_t taps) {
  size("taps", taps);
  if (passed() && taps % 2 == 0)
    fail(status_, LAT_BAD_ARGUMENT, "taps: got K=%" PRId64 ", expected an odd number, which keeps the length", taps);
  elements("conv_weight", num_heads, taps);
}

void ArgumentCheck::elements(const char* name, int64_t a, int64_t b, int64_t c, int64_t d) {
  int64_t count = 0;
  if (passed() && (__builtin_mul_overflow(a, b, &count) || __builtin_mul_overflow(count, c, &count) ||
                   __builtin_mul_overflow(count, d, &count) || count > kLargestElements))
    fail(status_, LAT_BAD_ARGUMENT,
         "%s: got %" PRId64 " x %" PRId64 " x %" PRId64 " x %" PRId64 ", expected at most %" PRId64 " elements", name,
         a, b, c, d, kLargestElements);
}

void ArgumentCheck::rows(const char* name, const lat_rows& value, int64_t batch, int64_t tokens, int64_t width) {
  pointer(name, value.data);
  if (!passed()) return;
  if (value.row_stride < width) {
    fail(status_, LAT_BAD_ARGUMENT, "%s: got a row stride of %" PRId64 ", expected at least E=%" PRId64, name,
         value.row_stride, width);
    return;
  }
  int64_t within = 0, between = 0, all = 0, numbers = 0;
  const bool countable = !__builtin_mul_overflow(batch * tokens, width, &numbers) && numbers <= kLargestElements &&
                         !__builtin_mul_overflow(tokens, value.row_stride, &within) &&
                         !__builtin_mul_overflow(batch - 1, value.batch_stride, &between) &&
                         !__builtin_add_overflow(within, between, &all) && all <= kLargestElements;
  if (value.batch_stride < 0 || !countable) {
    fail(status_, LAT_BAD_ARGUMENT,
         "%s: got B=%" PRId64 ", N=%" PRId64 ", E=%" PRId64 ", strides %" PRId64 " and %" PRId64
         ", expected at most %" PRId64 " elements",
         name, batch, tokens, width, value.batch_stride, value.row_stride, kLargestElements);
  }
}

void ArgumentCheck::token_mask(const int32_t* mask, int64_t batch, int64_t tokens) {
  pointer("attention_mask", mask);
  if (!passed()) return;
  for (int64_t at = 0; at < batch * tokens; ++at) {
    if (static_cast<uint32_t>(mask[at]) > LAT_GLOBAL) {
      fail(status_, LAT_BAD_ARGUMENT,
           "attention_mask: got %" PRId32 " at [%" PRId64 ", %" PRId64
           "], expected 0 (padding), 1 (token) or 2 (global token)",
           mask[at], at / tokens, at % tokens);
      return;
    }
  }
}

}  // namespace lat
