// Every kernel_cpu.cpp is compiled once for each instruction set, into a namespace of its own; the entry point picks the
// best one that this processor has, once. The build defines LAT_ARCH: scalar, avx2, avx512 or neon.
#pragma once

#ifndef LAT_ARCH
#error "the build compiles this file once for each instruction set, with -DLAT_ARCH=..."
#endif
