#include "common/cuda_entry.h"

#include <cinttypes>

namespace lat {
namespace {

constexpr int kLeastMajor = 8;  // mma with bfloat16, cp.async

}  // namespace

bool cuda_entry_is_sound(const void* args, lat_status* status) {
  if (status == nullptr) return false;
  succeed(*status);
  ArgumentCheck check(*status);
  check.pointer("args", args);
  return check.passed();
}

void check_cuda_head_size(int64_t width, int64_t num_heads, lat_status& status) {
  if (status.code != LAT_OK) return;
  const int64_t head_size = width / num_heads;
  if (head_size != 16 && head_size != 32 && head_size != 64 && head_size != 128)
    fail(status, LAT_UNSUPPORTED, "head size: got D=%" PRId64 ", expected 16, 32, 64 or 128 on CUDA devices",
         head_size);
}

void check_cuda_call(const void* workspace, lat_status& status) {
  ArgumentCheck check(status);
  check.pointer("workspace", workspace);
  if (check.passed() && reinterpret_cast<uintptr_t>(workspace) % LAT_WORKSPACE_ALIGNMENT != 0)
    fail(status, LAT_BAD_ARGUMENT, "workspace: got %p, expected an address that %d divides", workspace,
         LAT_WORKSPACE_ALIGNMENT);
  if (!check.passed()) return;
  int device = 0, major = 0, minor = 0;
  check_cuda("the current device", cudaGetDevice(&device), status);
  if (check.passed())
    check_cuda("its compute capability", cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device),
               status);
  if (check.passed())
    check_cuda("its compute capability", cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device),
               status);
  if (check.passed() && major < kLeastMajor)
    fail(status, LAT_UNSUPPORTED, "device %d: got compute capability %d.%d, expected %d.0 or later", device, major,
         minor, kLeastMajor);
}

int64_t multiprocessors(lat_status& status) {
  int device = 0, count = 0;
  check_cuda("the current device", cudaGetDevice(&device), status);
  if (status.code == LAT_OK)
    check_cuda("its multiprocessors", cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device), status);
  return count;
}

void check_cuda(const char* step, cudaError_t error, lat_status& status) {
  if (status.code == LAT_OK && error != cudaSuccess)
    fail(status, LAT_DEVICE_ERROR, "CUDA, %s: %s", step, cudaGetErrorString(error));
}

}  // namespace lat
