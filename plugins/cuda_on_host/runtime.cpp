// The few functions of the CUDA runtime that the entries ask, and the switches of the tests.
#include "common/kernel_abi.h"

namespace {
int shared_bytes_of_block = 99 * 1024;  // of sm_86; the least there is
}

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  *value = attribute == cudaDevAttrComputeCapabilityMajor         ? 8
           : attribute == cudaDevAttrMultiProcessorCount          ? 4
           : attribute == cudaDevAttrMaxSharedMemoryPerBlockOptin ? shared_bytes_of_block
                                                                  : 0;
  return cudaSuccess;
}
const char* cudaGetErrorString(cudaError_t) { return "the device on the host has no errors"; }

int32_t lat_abi_version(void) { return LAT_ABI_VERSION; }

// Copies at once or as late as can be, and the order of the threads.
extern "C" LAT_EXPORT void lat_on_host(int32_t late_copies, uint32_t seed) {
  lat::on_host::Device::get().late_copies = late_copies != 0;
  lat::on_host::Device::get().random.seed(seed);
}

// Shared memory that a block of threads may have.
extern "C" LAT_EXPORT void lat_on_host_shared_memory(int32_t bytes) { shared_bytes_of_block = bytes; }
