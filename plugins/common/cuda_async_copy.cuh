// Copies from global to shared memory that run on while the thread goes on: cp.async of 16 bytes, in groups.
#pragma once

#include "common/cuda_instructions.cuh"

namespace lat {

// 16 bytes, or 16 zero bytes where `there` is false; `from` is not read then, but must be a sound address.
__device__ __forceinline__ void copy_or_zero(uint32_t to, const void* from, bool there) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" : : "r"(to), "l"(from), "r"(there ? 16 : 0) : "memory");
}

// Ends a group. Every thread waits for its own groups; a barrier then shows them to the others.
__device__ __forceinline__ void end_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
__device__ __forceinline__ void wait_for_copies() { asm volatile("cp.async.wait_group 0;" ::: "memory"); }

}  // namespace lat
