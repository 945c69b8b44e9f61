// Launches of common/cuda_launch.cuh on the host: block by block, when they are asked for.
#pragma once

#include "common/cuda_entry.h"

namespace lat {

// As if a device were small.
constexpr int64_t kBlocksThatFill = 2;

template <class... Parameters, class... Arguments>
void launch(const char* step, void (*kernel)(Parameters...), int64_t blocks, int threads, int shared_bytes, cudaStream_t,
            lat_status& status, Arguments&&... arguments) {
  if (status.code != LAT_OK) return;
  int most = 0;
  cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0);
  if (threads > 1024 || shared_bytes > most) {
    std::fprintf(stderr, "%s: %d threads and %d bytes of shared memory, more than this device has\n", step, threads,
                 shared_bytes);
    std::abort();
  }
  on_host::Device& device = on_host::Device::get();
  device.kernel = [&] { kernel(arguments...); };
  for (int64_t block = 0; block < blocks; ++block) {
    device.block = static_cast<unsigned>(block);
    device.run_block(threads, shared_bytes);
  }
}

template <class Task>
void launch_all(const char* step, void (*kernel)(Task), Task task, int64_t blocks, int threads, int shared_bytes,
                cudaStream_t stream, lat_status& status) {
  // As if a grid took half of them.
  const int64_t most = (blocks + 1) / 2;
  for (task.first_block = 0; task.first_block < blocks; task.first_block += most) {
    const int64_t left = blocks - task.first_block;
    launch(step, kernel, left < most ? left : most, threads, shared_bytes, stream, status, task);
  }
}

}  // namespace lat
