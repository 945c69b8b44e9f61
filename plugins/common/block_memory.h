// Scratch memory that frees itself and says when there is none.
#pragma once

#include <stdint.h>
#include <stdlib.h>

#include "common/cpu_arch.h"
#include "common/kernel_abi.h"

namespace lat::LAT_ARCH {

// `count` elements of T, not initialised, at a multiple of 64 bytes. Test it before use: it is false without memory.
template <class T>
class Buffer {
 public:
  explicit Buffer(int64_t count) {
    int64_t bytes = 0;
    if (__builtin_mul_overflow(count, static_cast<int64_t>(sizeof(T)), &bytes) || bytes < 0 || bytes > kMostBytes)
      return;
    data_ = static_cast<T*>(aligned_alloc(64, static_cast<size_t>(bytes + 64) / 64 * 64));
  }
  ~Buffer() { free(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  explicit operator bool() const { return data_ != nullptr; }
  T* data() const { return data_; }

 private:
  static constexpr int64_t kMostBytes = INT64_MAX / 2;
  T* data_ = nullptr;
};

}  // namespace lat::LAT_ARCH
