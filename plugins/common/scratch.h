// Memory that a task needs for itself: one block a thread, kept until the thread ends, so that tasks do not allocate.
#pragma once

#include <cstddef>

namespace lat {

constexpr std::size_t kScratchAlignment = 64;

// At least `bytes`, aligned to kScratchAlignment, of this thread; null where there is no memory. What an earlier call
// gave is lost.
void* thread_scratch(std::size_t bytes);

// For the length of one call: zero where there is no memory.
class CallMemory {
 public:
  explicit CallMemory(std::size_t bytes);
  ~CallMemory();
  CallMemory(const CallMemory&) = delete;
  CallMemory& operator=(const CallMemory&) = delete;

  void* data() const { return data_; }

 private:
  void* data_;
};

}  // namespace lat
