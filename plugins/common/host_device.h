// Index arithmetic of the CUDA kernels that the host's tests run too.
#pragma once

#if defined(__CUDACC__)
#define LAT_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define LAT_HOST_DEVICE inline
#endif
