// Launches with their own error, and grids of any size.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <utility>

#include "common/cuda_entry.h"

namespace lat {

constexpr int64_t kLargestGrid = INT32_MAX;
// Blocks of threads, with which the largest device is full several times over: further work goes to the same ones.
constexpr int64_t kBlocksThatFill = 1056;
constexpr int kSharedBytesWithoutAsking = 48 * 1024;

// Does nothing where the status already tells of a failure.
template <class... Parameters, class... Arguments>
void launch(const char* step, void (*kernel)(Parameters...), int64_t blocks, int threads, int shared_bytes,
            cudaStream_t stream, lat_status& status, Arguments&&... arguments) {
  if (status.code != LAT_OK) return;
  if (shared_bytes > kSharedBytesWithoutAsking)
    check_cuda(step, cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes), status);
  if (status.code != LAT_OK) return;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = static_cast<size_t>(shared_bytes);
  config.stream = stream;
  check_cuda(step, cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...), status);
}

// A kernel over more blocks than a grid takes: `first_block` is what a launch of it starts with.
template <class Task>
void launch_all(const char* step, void (*kernel)(Task), Task task, int64_t blocks, int threads, int shared_bytes,
                cudaStream_t stream, lat_status& status) {
  for (task.first_block = 0; task.first_block < blocks; task.first_block += kLargestGrid) {
    const int64_t left = blocks - task.first_block;
    launch(step, kernel, left < kLargestGrid ? left : kLargestGrid, threads, shared_bytes, stream, status, task);
  }
}

}  // namespace lat
