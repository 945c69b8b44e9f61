// The instructions of common/cuda_instructions.cuh as the PTX ISA describes them, on the host.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cmath>
#include <cstdint>

#define LAT_SHARED_MEMORY(name) unsigned char* const name = lat::on_host::shared_memory()

namespace lat {

inline float exp2_fast(float x) { return std::exp2(x); }

inline float sqrt_fast(float x) { return std::sqrt(x); }
inline float saturated_multiply_add(float a, float b, float c) {
  const float sum = std::fma(a, b, c);
  return sum > 0.0f ? (sum < 1.0f ? sum : 1.0f) : 0.0f;
}

inline uint32_t shared_address(const void* at) {
  return static_cast<uint32_t>(static_cast<const unsigned char*>(at) - on_host::shared_memory());
}

inline int lane_of_warp() { return static_cast<int>(threadIdx.x % 32); }
inline int thread_of_block() { return static_cast<int>(threadIdx.x); }

inline void load_matrices_on_host(uint32_t (&to)[4], uint32_t row, bool transposed) {
  if (row % 16 != 0 || row + 16 > on_host::Device::get().shared.size()) std::abort();
  const auto& rows = on_host::Device::get().trade(&row, 1);
  const int outer = lane_of_warp() / 4, inner = lane_of_warp() % 4 * 2;
  for (int matrix = 0; matrix < 4; ++matrix) {
    uint16_t pair[2];
    for (int i = 0; i < 2; ++i) {
      const int at = transposed ? inner + i : outer, column = transposed ? outer : inner + i;
      std::memcpy(&pair[i], on_host::shared_memory() + rows[8 * matrix + at][0] + 2 * column, 2);
    }
    std::memcpy(&to[matrix], pair, 4);
  }
  on_host::Device::get().meet_warp();
}

inline void load_matrices(uint32_t (&to)[4], uint32_t row) { load_matrices_on_host(to, row, false); }
inline void load_matrices_transposed(uint32_t (&to)[4], uint32_t row) { load_matrices_on_host(to, row, true); }

inline void store_shared(uint32_t to, const float4& numbers) {
  if (to % 16 != 0 || to + 16 > on_host::Device::get().shared.size()) std::abort();
  std::memcpy(on_host::shared_memory() + to, &numbers, 16);
}

inline uint32_t load_shared(uint32_t from) {
  if (from % 4 != 0 || from + 4 > on_host::Device::get().shared.size()) std::abort();
  uint32_t word;
  std::memcpy(&word, on_host::shared_memory() + from, 4);
  return word;
}

inline uint32_t rounded_to_tf32(uint32_t number) {
  const bool finite = (number & 0x7f800000u) != 0x7f800000u;
  return (finite ? number + 0x1000u : number) & ~0x1fffu;
}

template <class Element>
inline float half_of(uint32_t word, int i) {
  const uint16_t bits = static_cast<uint16_t>(word >> 16 * i);
  Element element;
  std::memcpy(static_cast<void*>(&element), &bits, 2);
  return static_cast<float>(element);
}

// sum[16 x 8] += a[16 x 16] b[16 x 8]: PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type".
template <class Element>
inline void multiply_add(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  const uint32_t words[6] = {a[0], a[1], a[2], a[3], b0, b1};
  const auto& given = on_host::Device::get().trade(words, 6);
  const int group = lane_of_warp() / 4, thread = lane_of_warp() % 4;
  for (int i = 0; i < 4; ++i) {
    const int row = group + (i < 2 ? 0 : 8), column = thread * 2 + i % 2;
    for (int k = 0; k < 16; ++k) {
      const int left = row % 8 * 4 + k % 8 / 2, right = column * 4 + k % 8 / 2;
      sum[i] +=
          half_of<Element>(given[left][row / 8 + k / 8 * 2], k % 2) * half_of<Element>(given[right][4 + k / 8], k % 2);
    }
  }
}

// What mma takes for TF32: a float32 without its last 13 bits.
inline float tf32_of(uint32_t word) {
  word &= ~0x1fffu;
  float number;
  std::memcpy(&number, &word, 4);
  return number;
}

// sum[16 x 8] += a[16 x 8] b[8 x 8]: PTX ISA, "Matrix Fragments for mma.m16n8k8", .tf32.
template <>
inline void multiply_add<float>(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  const uint32_t words[6] = {a[0], a[1], a[2], a[3], b0, b1};
  const auto& given = on_host::Device::get().trade(words, 6);
  const int group = lane_of_warp() / 4, thread = lane_of_warp() % 4;
  for (int i = 0; i < 4; ++i) {
    const int row = group + (i < 2 ? 0 : 8), column = thread * 2 + i % 2;
    for (int k = 0; k < 8; ++k)
      sum[i] +=
          tf32_of(given[row % 8 * 4 + k % 4][row / 8 + k / 4 * 2]) * tf32_of(given[column * 4 + k % 4][4 + k / 4]);
  }
}

}  // namespace lat
