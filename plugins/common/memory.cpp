#include "common/memory.h"

#include <cstdlib>

namespace lat {
namespace {

constexpr std::size_t kAlignment = 64;
constexpr std::size_t kMost = SIZE_MAX / 2;

int64_t allocations_before_failure = -1;  // none fails

}  // namespace

void* allocate(std::size_t bytes) {
  // Read alone while no test asks for a failure: callers on several threads may allocate at once.
  if (allocations_before_failure >= 0 && allocations_before_failure-- == 0) return nullptr;
  if (bytes > kMost) return nullptr;
  return std::aligned_alloc(kAlignment, (bytes / kAlignment + 1) * kAlignment);
}

void release(void* data) { std::free(data); }

void fail_allocation_after(int64_t count) { allocations_before_failure = count; }

}  // namespace lat
