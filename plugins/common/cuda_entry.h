// What the entries of every CUDA kernel do before and after their launches.
#pragma once

#include <cuda_runtime_api.h>

#include "common/arguments.h"

namespace lat {

// Clears the status; false where a pointer that every entry needs is null.
bool cuda_entry_is_sound(const void* args, lat_status* status);

// D is one that the CUDA kernels have.
void check_cuda_head_size(int64_t width, int64_t num_heads, lat_status& status);

// What an entry needs besides sound arguments: an aligned workspace and a device that can run the kernels.
void check_cuda_call(const void* workspace, lat_status& status);

// Of the current device.
int64_t multiprocessors(lat_status& status);

// Writes the status where CUDA said no.
void check_cuda(const char* step, cudaError_t error, lat_status& status);

// Pieces of a workspace, each aligned as a whole workspace is. Without a base it only counts.
class Workspace {
 public:
  explicit Workspace(void* base = nullptr) : base_(static_cast<char*>(base)) {}

  template <class T>
  T* take(int64_t count) {
    char* const at = base_ == nullptr ? nullptr : base_ + bytes_;
    bytes_ += (count * static_cast<int64_t>(sizeof(T)) + LAT_WORKSPACE_ALIGNMENT - 1) / LAT_WORKSPACE_ALIGNMENT *
              LAT_WORKSPACE_ALIGNMENT;
    return reinterpret_cast<T*>(at);
  }
  int64_t bytes() const { return bytes_; }

 private:
  char* base_;
  int64_t bytes_ = 0;
};

}  // namespace lat
