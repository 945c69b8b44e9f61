// Every kernel_cpu.cpp is compiled once for each instruction set, into a namespace of its own; the entry point picks
// the best one that this processor has, once. The build defines LAT_ARCH: scalar, avx2, avx512 or neon.
//
// Whatever such a file includes must be in `lat::LAT_ARCH` or have no code of its own: a template of the standard
// library that two of these files instantiate is one symbol for the linker, which may keep the one with AVX-512 in it.
// tests/native/test_build.py looks for such symbols in the objects.
#pragma once

#ifndef LAT_ARCH
#error "the build compiles this file once for each instruction set, with -DLAT_ARCH=..."
#endif

#include "common/kernel_abi.h"

// Of one op, in each instruction set that the build has (LAT_WITH_*). LAT_CPU_ENTRY(op) at the end of a kernel_cpu.cpp
// makes `lat_<op>_cpu`, once, in the object of the baseline (LAT_BASELINE), out of the functions
// `void lat::<arch>::<op>(const lat_<op>_args&, const lat_parallel&, lat_status&)`.
#define LAT_CPU_DECLARE(arch, op)                                                         \
  namespace lat::arch {                                                                   \
  void op(const lat_##op##_args& args, const lat_parallel& parallel, lat_status& status); \
  }

#ifdef LAT_BASELINE

#include "common/cpu_dispatch.h"

#ifdef LAT_WITH_AVX512
#define LAT_DECLARE_AVX512(op) LAT_CPU_DECLARE(avx512, op)
#define LAT_TRY_AVX512(op) \
  if (lat::cpu_arch() >= lat::CpuArch::avx512) return lat::avx512::op(*args, tasks, *status);
#else
#define LAT_DECLARE_AVX512(op)
#define LAT_TRY_AVX512(op)
#endif

#ifdef LAT_WITH_AVX2
#define LAT_DECLARE_AVX2(op) LAT_CPU_DECLARE(avx2, op)
#define LAT_TRY_AVX2(op) \
  if (lat::cpu_arch() >= lat::CpuArch::avx2) return lat::avx2::op(*args, tasks, *status);
#else
#define LAT_DECLARE_AVX2(op)
#define LAT_TRY_AVX2(op)
#endif

#define LAT_CPU_ENTRY(op)                                                                              \
  LAT_DECLARE_AVX512(op)                                                                               \
  LAT_DECLARE_AVX2(op)                                                                                 \
  extern "C" LAT_EXPORT void lat_##op##_cpu(const lat_##op##_args* args, const lat_parallel* parallel, \
                                            lat_status* status) {                                      \
    if (!lat::entry_is_sound(args, parallel, status)) return;                                          \
    const lat_parallel& tasks = parallel == nullptr ? lat::in_callers_thread : *parallel;              \
    LAT_TRY_AVX512(op)                                                                                 \
    LAT_TRY_AVX2(op)                                                                                   \
    lat::LAT_ARCH::op(*args, tasks, *status);                                                          \
  }

#else
#define LAT_CPU_ENTRY(op)
#endif
