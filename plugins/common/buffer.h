// Memory for the length of one call, which frees itself and says when there is none.
#pragma once

#include "common/cpu_arch.h"
#include "common/memory.h"

namespace lat::LAT_ARCH {

// `count` elements of T, not initialised. Test it before use: it is false without memory.
template <class T>
class Buffer {
 public:
  explicit Buffer(int64_t count) {
    int64_t bytes = 0;
    if (!__builtin_mul_overflow(count, static_cast<int64_t>(sizeof(T)), &bytes) && bytes >= 0)
      data_ = static_cast<T*>(allocate(static_cast<std::size_t>(bytes)));
  }
  ~Buffer() { release(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  explicit operator bool() const { return data_ != nullptr; }
  T* data() const { return data_; }

 private:
  T* data_ = nullptr;
};

}  // namespace lat::LAT_ARCH
