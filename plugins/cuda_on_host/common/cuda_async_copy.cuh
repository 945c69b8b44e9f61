// Copies of common/cuda_async_copy.cuh on the host: at once, or as late as a wait allows.
#pragma once

#include "common/cuda_instructions.cuh"

namespace lat {

inline void copy_or_zero(uint32_t to, const void* from, bool there) {
  on_host::Device& device = on_host::Device::get();
  if (to % 16 != 0 || reinterpret_cast<uintptr_t>(from) % 16 != 0 || to + 16 > device.shared.size()) std::abort();
  const auto copy = [to, from, there] {
    if (there)
      std::memcpy(on_host::shared_memory() + to, from, 16);
    else
      std::memset(on_host::shared_memory() + to, 0, 16);
  };
  if (device.late_copies)
    device.self().copies.push_back(copy);
  else
    copy();
}

inline void end_copies() {}
inline void wait_for_copies() {
  std::vector<std::function<void()>>& copies = on_host::Device::get().self().copies;
  for (const auto& copy : copies) copy();
  copies.clear();
}

}  // namespace lat
