#include "common/cpu_dispatch.h"

#include <cstdlib>
#include <cstring>

#include "common/arguments.h"

namespace lat {
namespace {

constexpr const char* kNames[] = {"unknown", "scalar", "neon", "avx2", "avx512"};

#if defined(__aarch64__)
constexpr CpuArch kArchs[] = {CpuArch::neon};
#else
constexpr CpuArch kArchs[] = {CpuArch::scalar, CpuArch::avx2, CpuArch::avx512};
#endif

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

// What the environment asked for, if anything, and what is taken.
struct Choice {
  char wanted[40] = "";
  CpuArch arch = best_of_this_processor();

  Choice() {
    const char* name = std::getenv("LAT_CPU_ARCH");
    if (name == nullptr || *name == 0) return;
    std::strncpy(wanted, name, sizeof wanted - 1);
    const CpuArch best = arch;
    arch = CpuArch::unknown;
    for (const CpuArch one : kArchs)
      if (std::strcmp(wanted, kNames[static_cast<int>(one)]) == 0) arch = one < best ? one : best;
  }
};

const Choice& choice() {
  static const Choice made;
  return made;
}

void run_in_order(void*, int64_t count, lat_task task, void* context) {
  for (int64_t index = 0; index < count; ++index) task(context, index);
}

}  // namespace

const lat_parallel in_callers_thread{run_in_order, nullptr, 1};

CpuArch cpu_arch() { return choice().arch; }

bool entry_is_sound(const void* args, const lat_parallel* parallel, lat_status* status) {
  if (status == nullptr) return false;
  succeed(*status);
  ArgumentCheck check(*status);
  check.pointer("args", args);
  if (parallel != nullptr) check.pointer("parallel->run", reinterpret_cast<const void*>(parallel->run));
  if (check.passed() && cpu_arch() == CpuArch::unknown)
    fail(*status, LAT_BAD_ARGUMENT, "LAT_CPU_ARCH: got %s, expected one of %s", choice().wanted,
#if defined(__aarch64__)
         "neon"
#else
         "scalar, avx2, avx512"
#endif
    );
  return check.passed();
}

}  // namespace lat

int32_t lat_abi_version(void) { return LAT_ABI_VERSION; }

const char* lat_cpu_arch_name(void) { return lat::kNames[static_cast<int>(lat::cpu_arch())]; }
