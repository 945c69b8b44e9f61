#include "common/cpu_dispatch.h"

#include <cstdlib>
#include <cstring>

#include "common/arguments.h"

namespace lat {
namespace {

constexpr const char* kNames[] = {"scalar", "neon", "avx2", "avx512"};

CpuArch best_of_this_processor() {
#if defined(__aarch64__)
  return CpuArch::neon;
#else
#if defined(LAT_WITH_AVX512)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq"))
    return CpuArch::avx512;
#endif
#if defined(LAT_WITH_AVX2)
  // Every processor with AVX2 and FMA has F16C, which the compiler's run-time check does not know by name.
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return CpuArch::avx2;
#endif
  return CpuArch::scalar;
#endif
}

CpuArch choose() {
  const CpuArch best = best_of_this_processor();
  const char* wanted = std::getenv("LAT_CPU_ARCH");
  if (wanted == nullptr) return best;
  for (int arch = 0; arch <= static_cast<int>(best); ++arch)
    if (std::strcmp(wanted, kNames[arch]) == 0) return static_cast<CpuArch>(arch);
  return best;
}

}  // namespace

CpuArch cpu_arch() {
  static const CpuArch chosen = choose();
  return chosen;
}

bool entry_is_sound(const void* args, const lat_parallel* parallel, lat_status* status) {
  if (status == nullptr) return false;
  succeed(*status);
  if (args == nullptr)
    fail(*status, LAT_BAD_ARGUMENT, "args: got a null pointer, expected a struct");
  else if (parallel == nullptr || parallel->run == nullptr)
    fail(*status, LAT_BAD_ARGUMENT, "parallel: got a null pointer, expected a way to run tasks");
  return status->code == LAT_OK;
}

}  // namespace lat

const char* lat_cpu_arch_name() { return lat::kNames[static_cast<int>(lat::cpu_arch())]; }
