// Where kernels get their memory, and how a test takes it away.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lat {

// At a multiple of 64 bytes; null where there is no memory.
void* allocate(std::size_t bytes);
void release(void* data);
// For tests: of the allocations to come, the one after `count` others fails; no more than that one. Not for threads.
void fail_allocation_after(int64_t count);

}  // namespace lat
