// The instruction set that kernels run in: the best of this build and this processor, found once.
#pragma once

#include "common/kernel_abi.h"

namespace lat {

// In the order in which a higher one is better; scalar and neon are the baselines of their machines.
enum class CpuArch { scalar, neon, avx2, avx512 };

// LAT_CPU_ARCH in the environment may ask for a lower one than the processor's best; it is read once.
CpuArch cpu_arch();

// Clears the status; false, with a message in it, where a pointer that every entry needs is null.
bool entry_is_sound(const void* args, const lat_parallel* parallel, lat_status* status);

}  // namespace lat

// The name of cpu_arch(), for reports: "scalar", "neon", "avx2" or "avx512".
extern "C" LAT_EXPORT const char* lat_cpu_arch_name(void);
