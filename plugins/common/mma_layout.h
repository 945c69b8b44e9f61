// Where the numbers of a matrix product lie: in the registers of mma.sync.m16n8k16 (PTX ISA, "Matrix Fragments for
// mma.m16n8k16 with floating point type") and, for TF32, of m16n8k8 (those of "mma.m16n8k8", .tf32), in what ldmatrix
// reads, and in shared memory. mma_layout_test.cpp plays a warp on the host with these.
#pragma once

#include <cstdint>

#include "common/host_device.h"

namespace lat {

// Of D (or C) of 16 x 8: register i of four.
LAT_HOST_DEVICE constexpr int sum_row(int lane, int i) { return lane / 4 + 8 * (i / 2); }
LAT_HOST_DEVICE constexpr int sum_column(int lane, int i) { return lane % 4 * 2 + i % 2; }

// ldmatrix.x4 reads four matrices of 8 x 8; lane l gives the address of row l % 8 of matrix l / 8, 16 bytes. Register i
// then holds, of matrix i, row lane / 4, columns lane % 4 * 2 and the next; with .trans, row and column are swapped.
// Here: rows and columns, in steps of 8 columns ("chunks"), that a lane must point at within a 16 x 16 block.
struct Place {
  int row, chunk;
};

// A of 16 x 16, row-major. Also B, given as 16 keys x 16 numbers of V, through .trans: registers 0 and 1 are B of the
// first 8 columns, 2 and 3 of the others.
LAT_HOST_DEVICE constexpr Place place_by_columns(int lane) { return {lane % 16, lane / 16}; }

// B, given as 16 keys x 16 numbers of K, which is B^T: registers 0 and 1 are B of the first 8 keys, 2 and 3 of the
// others.
LAT_HOST_DEVICE constexpr Place place_by_rows(int lane) { return {lane % 8 + lane / 16 * 8, lane / 8 % 2}; }

// Of float32, ldmatrix takes 4 numbers for its 8: with the same places, registers 0 to 3 are A of 16 x 8, and 0 and 1,
// 2 and 3 are B of the first and of the other 8 keys of K, as m16n8k8 has them.
// V needs B untransposed, which no ldmatrix gives: each lane reads number lane / 4 of two of 8 keys. Which keys stand
// for k = lane % 4 and for k + 4 is free where the weights' columns are taken in the same order: it is the order in
// which sums lie, so register i of A is sum weight_of_key(i), and register i of B is of key sum_column(lane, i).
LAT_HOST_DEVICE constexpr int weight_of_key(int i) { return i % 2 * 2 + i / 2; }

// Shared memory: rows of kColumns numbers of kBytes in chunks of 16 bytes, permuted so that the same chunk of 8 rows in
// a row (what ldmatrix reads at once), all chunks of a row (what a copy writes) and, of float32, two chunks side by
// side of every other one of 8 rows (what lanes read of V at once) lie in different banks. In bytes, from a start on
// kSwizzleBytes. It repeats after 8 rows: 8 rows further is 8 * kBytes * kColumns bytes further.
constexpr int kSwizzleBytes = 512;

template <int kColumns, int kBytes = 2>
LAT_HOST_DEVICE constexpr uint32_t swizzled(int row, int chunk) {
  constexpr int kChunks = kColumns * kBytes / 16;
  constexpr int kRowsOfBanks = kChunks >= 8 ? 1 : 8 / kChunks;  // rows that lie in 128 bytes
  constexpr int kTurn = kChunks >= 8 ? 8 : kChunks;
  // Every other one of 8 rows would lie in the same half of the banks: two rows of 64 bytes change places, and not the
  // next two.
  const int place = kBytes == 4 && kRowsOfBanks == 2 ? row ^ (row / 2 % 2) : row;
  return static_cast<uint32_t>(place * kColumns * kBytes + (chunk ^ (row / kRowsOfBanks % kTurn)) * 16);
}

// From the address of a row's chunk 0 or 1 to that of chunk 2 * pair or 2 * pair + 1.
LAT_HOST_DEVICE constexpr uint32_t pairs_further(uint32_t address, int pair) {
  return address ^ static_cast<uint32_t>(32 * pair);
}

}  // namespace lat
