// The part of CUDA's runtime that lat_run calls, in the host's memory, every byte of it poisoned at first.
#include <cuda_runtime_api.h>

#include <cstdlib>
#include <cstring>

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
  const char* gpus = std::getenv("PLAYED_GPUS");
  *count = gpus == nullptr ? 1 : std::atoi(gpus);
  return *count > 0 ? cudaSuccess : cudaErrorNoDevice;
}

const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorNoDevice ? "no CUDA-capable device is detected" : "an error of CUDA";
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  std::strcpy(properties->name, "a played GPU");
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** address, size_t bytes) {
  *address = std::malloc(bytes);
  std::memset(*address, 0xff, bytes);
  return cudaSuccess;
}

cudaError_t cudaFree(void* address) {
  std::free(address);
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind) {
  if (bytes != 0) std::memcpy(to, from, bytes);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t) {
  return cudaMemcpy(to, from, bytes, kind);
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  *stream = static_cast<cudaStream_t>(std::malloc(1));
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) { return cudaFree(stream); }

cudaError_t cudaStreamSynchronize(cudaStream_t) {
  return std::getenv("PLAYED_CRASH") == nullptr ? cudaSuccess : cudaErrorIllegalAddress;
}

}  // extern "C"
