// Signs of projections as bits of words, and hash codes cut out of those: bit t of hash r is column r * T + t. Products
// come in chunks of 64 columns; a row of signs is the words of all chunks. sign_bits_test.cpp runs it on the host.
#pragma once

#include <cstdint>

#include "common/host_device.h"

namespace lat {

constexpr int kSignColumns = 64, kSignWords = kSignColumns / 32;

LAT_HOST_DEVICE constexpr int sign_chunks(int columns) { return (columns + kSignColumns - 1) / kSignColumns; }

// Words from one row to the next: one more than there are, which a code may look into and takes nothing from; odd, so
// that 32 rows lie in 32 banks.
LAT_HOST_DEVICE constexpr int sign_stride(int columns) { return kSignWords * sign_chunks(columns) + 1; }

// What a lane gives to the word of 32 columns of a row, of its sums of the block of 8 columns `block` in there
// (mma_layout.h: it has two columns of each block). The word is all that the four lanes of a row give.
LAT_HOST_DEVICE constexpr uint32_t signs_of_lane(int lane, int block, bool first, bool second) {
  return (static_cast<uint32_t>(first) | static_cast<uint32_t>(second) << 1) << (8 * block + lane % 4 * 2);
}

LAT_HOST_DEVICE uint32_t code_of(const uint32_t* words, int hash, int code_length) {
  const int bit = hash * code_length;
  const uint64_t both = uint64_t{words[bit / 32 + 1]} << 32 | words[bit / 32];
  return static_cast<uint32_t>(both >> (bit % 32)) & ((uint32_t{1} << code_length) - 1);
}

}  // namespace lat
