// From the type and the head size of a call to those that the kernels are compiled for.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

#include "common/kernel_abi.h"

namespace lat {

template <class T>
struct TypeOf {
  using Type = T;
};

// `run` gets TypeOf<float>, TypeOf<__half> or TypeOf<__nv_bfloat16>; `dtype` is one of kernel_abi.h.
template <class Run>
void with_element(int32_t dtype, Run run) {
  if (dtype == LAT_FLOAT32) return run(TypeOf<float>());
  if (dtype == LAT_FLOAT16) return run(TypeOf<__half>());
  run(TypeOf<__nv_bfloat16>());
}

// `run` gets the head size as an std::integral_constant; it is one that check_cuda_head_size takes.
template <class Run>
void with_head_size(int64_t head_size, Run run) {
  switch (head_size) {
    case 16:
      return run(std::integral_constant<int, 16>());
    case 32:
      return run(std::integral_constant<int, 32>());
    case 64:
      return run(std::integral_constant<int, 64>());
    default:
      return run(std::integral_constant<int, 128>());
  }
}

}  // namespace lat
