// What a kernel reports: a code, and a line that says what was wrong, what came and what was expected.
// For the C entries only: a kernel_cpu.cpp that included it would give the linker a copy in its own instruction set.
#pragma once

#include <stdint.h>
#include <stdio.h>

#include "block_dispatch.h"
#include "kernel_abi.h"

namespace lat {

inline void succeed(lat_status* status) {
  status->code = LAT_OK;
  status->message[0] = 0;
}

// Checks one after the other; the first that fails is reported, and the rest are skipped.
class Checks {
 public:
  Checks(const char* op, lat_status* status) : op_(op), status_(status) { succeed(status); }

  bool passed() const { return status_->code == LAT_OK; }

  void pointer(const char* name, const void* given) {
    if (passed() && given == nullptr) fail("%s of lat::%s: got: null, expected: a pointer", name, op_);
  }

  void range(const char* name, int64_t given, int64_t least, int64_t most) {
    if (!passed() || (given >= least && given <= most)) return;
    fail("%s of lat::%s is out of range: got: %lld, expected: %lld to %lld", name, op_, static_cast<long long>(given),
         static_cast<long long>(least), static_cast<long long>(most));
  }

  // 2^31 - 1 tokens, heads or taps are more than any memory holds, and products of three stay countable.
  void size(const char* name, int64_t given) { range(name, given, 1, INT32_MAX); }

  void arch(Arch given) {
    if (passed() && given == Arch::kUnknown) {
      fail("LAT_CPU_ARCH names no build of lat::%s: got: %.40s, expected: scalar, avx2 or avx512", op_, wanted_arch());
    }
  }

  void dtype(const lat_dtype* given) {
    int32_t raw;  // read as what it is: an enumeration that holds any other value is undefined behaviour
    __builtin_memcpy(&raw, given, sizeof raw);
    if (passed() && (raw < LAT_FLOAT32 || raw > LAT_BFLOAT16)) {
      fail("dtype of lat::%s is unknown: got: %d, expected: 0 (float32), 1 (float16) or 2 (bfloat16)", op_, raw);
    }
  }

  void parallel(const lat_parallel* given) {
    if (passed() && given != nullptr && given->run == nullptr) pointer("parallel->run", nullptr);
  }

  // Beyond any address space, and low enough for the padding to whole vectors, times the workers, to stay countable.
  void bytes(const char* name, int64_t a, int64_t b, int64_t c, int64_t d) {
    int64_t product = 4;
    if (!passed()) return;
    if (__builtin_mul_overflow(product, a, &product) || __builtin_mul_overflow(product, b, &product) ||
        __builtin_mul_overflow(product, c, &product) || __builtin_mul_overflow(product, d, &product) ||
        product > INT64_MAX >> 12) {
      fail("%s of lat::%s is too large: got: %lld x %lld x %lld x %lld, expected: less than 2^49 numbers", name, op_,
           static_cast<long long>(a), static_cast<long long>(b), static_cast<long long>(c), static_cast<long long>(d));
    }
  }

  template <class... Values>
  void fail(const char* format, Values... values) {
    status_->code = LAT_BAD_ARGUMENT;
    snprintf(status_->message, sizeof status_->message, format, values...);
  }

 private:
  const char* op_;
  lat_status* status_;
};

}  // namespace lat
