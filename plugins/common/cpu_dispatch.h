// The instruction set that kernels run in: the best of this build and this processor, found once.
#pragma once

#include "common/kernel_abi.h"

namespace lat {

// In the order in which a higher one is better; scalar and neon are the baselines of their machines. `unknown` is what
// LAT_CPU_ARCH asked for and this build has not.
enum class CpuArch { unknown, scalar, neon, avx2, avx512 };

// LAT_CPU_ARCH in the environment may ask for a lower one than the processor's best, which is taken where it asks for
// a higher one; it is read once.
CpuArch cpu_arch();

// Clears the status; false, with a message in it, where a pointer that every entry needs is null or LAT_CPU_ARCH names
// no build.
bool entry_is_sound(const void* args, const lat_parallel* parallel, lat_status* status);

// Tasks one after the other in the caller's thread, for a caller that gave no way to run them.
extern const lat_parallel in_callers_thread;

}  // namespace lat
