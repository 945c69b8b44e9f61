// Which of a kernel's builds runs here: the best that this processor has, or a lower one named by LAT_CPU_ARCH.
#pragma once

#include <stdlib.h>
#include <string.h>

#include <initializer_list>

#include "kernel_abi.h"

namespace lat {

// From the least able to the most.
enum class Arch { kUnknown = -1, kScalar, kAvx2, kAvx512, kNeon };

inline Arch best_arch() {
#if defined(__aarch64__)
  return Arch::kNeon;
#else
  __builtin_cpu_init();
  const bool fused = __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  if (fused && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")) {
    return Arch::kAvx512;
  }
  return fused && __builtin_cpu_supports("avx2") ? Arch::kAvx2 : Arch::kScalar;
#endif
}

inline const char* arch_name(Arch arch) {
  switch (arch) {
    case Arch::kScalar:
      return "scalar";
    case Arch::kAvx2:
      return "avx2";
    case Arch::kAvx512:
      return "avx512";
    case Arch::kNeon:
      return "neon";
    default:
      return "unknown";
  }
}

inline const char* wanted_arch() {
  const char* name = getenv("LAT_CPU_ARCH");
  return name == nullptr ? "" : name;
}

// kUnknown where LAT_CPU_ARCH names no build.
inline Arch choose_arch() {
  const Arch best = best_arch();
  const char* wanted = wanted_arch();
  if (*wanted == 0 || best == Arch::kNeon) return best;
  for (const Arch arch : {Arch::kScalar, Arch::kAvx2, Arch::kAvx512}) {
    if (strcmp(wanted, arch_name(arch)) == 0) return arch < best ? arch : best;
  }
  return Arch::kUnknown;
}

}  // namespace lat
