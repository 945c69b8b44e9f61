// The two products of attention on the matrix units: 16 * kRowTiles rows in the registers of a warp against tiles of 64
// keys, and their weights against the values. How scores become weights is the caller's.
#pragma once

#include "common/cuda_instructions.cuh"
#include "common/cuda_storage.cuh"
#include "common/mma_layout.h"
#include "common/tile_walk.h"

namespace lat {

// Scores of the keys whose bit is not set become -inf: sums of half `half` of 16 rows (mma_layout.h).
template <int kColumns>
__device__ __forceinline__ void hide_keys(float (&score)[kColumns][4], int half, uint64_t seen) {
  seen >>= sum_column(lane_of_warp(), 0);
  const uint32_t low = static_cast<uint32_t>(seen), high = static_cast<uint32_t>(seen >> 32);
#pragma unroll
  for (int column = 0; column < kColumns; ++column)
#pragma unroll
    for (int i = 0; i < 2; ++i)
      if (((column < 4 ? low : high) & 1u << (column % 4 * 8 + i)) == 0) score[column][2 * half + i] = -INFINITY;
}

// Queries and keys are multiplied as `Element`, weights and values as `Value`; float is rounded to TF32 on the way.
// With kKeepsPlaces the lane's places in a tile stay in registers; else they are worked out anew for each tile.
template <class Element, class Value, int kHeadSize, int kRowTiles, bool kKeepsPlaces>
class MmaProducts {
 public:
  static constexpr uint32_t kRowBytes = sizeof(Element) * kHeadSize;
  static constexpr int kSteps = kRowBytes / 32;        // of a score's sum: 16 numbers of 16 bits, 8 of float32
  static constexpr int kValueColumns = kHeadSize / 8;  // of 8, as sums lie in registers
  static constexpr int kOperands = sizeof(Value) / 2;  // left ones that the weights of 16 keys make

  __device__ __forceinline__ void start(uint32_t queries) {
    if (kKeepsPlaces) {
      key_place_ = place_of_lane(place_by_rows(lane_of_warp()));
      value_place_ = place_of_lane(place_by_columns(lane_of_warp()));
    }
    queries += place_of_lane(place_by_columns(lane_of_warp()));
#pragma unroll
    for (int tile = 0; tile < kRowTiles; ++tile) {
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        load_matrices(query_[tile][step], pairs_further(queries, step) + tile * 16 * kRowBytes);
        round_operands(query_[tile][step]);
      }
#pragma unroll
      for (int column = 0; column < kValueColumns; ++column)
#pragma unroll
        for (int i = 0; i < 4; ++i) context_[tile][column][i] = 0.0f;
    }
  }

  // Of 16 * kGroups keys.
  template <int kGroups>
  __device__ __forceinline__ void multiply_keys(float (&score)[kRowTiles][2 * kGroups][4], uint32_t keys) const {
    keys += kKeepsPlaces ? key_place_ : place_of_lane(place_by_rows(lane_of_warp()));
#pragma unroll
    for (int tile = 0; tile < kRowTiles; ++tile)
#pragma unroll
      for (int column = 0; column < 2 * kGroups; ++column)
#pragma unroll
        for (int i = 0; i < 4; ++i) score[tile][column][i] = 0.0f;
    uint32_t key[2][4];  // the next ones are on their way while these are multiplied
    load_matrices(key[0], keys);
#pragma unroll
    for (int at = 0; at < kSteps * kGroups; ++at) {
      const int step = at / kGroups, pair = at % kGroups, next = at + 1;
      if (next < kSteps * kGroups)
        load_matrices(key[next % 2], pairs_further(keys, next / kGroups) + next % kGroups * 16 * kRowBytes);
      round_operands(key[at % 2]);
#pragma unroll
      for (int tile = 0; tile < kRowTiles; ++tile) {
        multiply_add<Element>(score[tile][2 * pair], query_[tile][step], key[at % 2][0], key[at % 2][1]);
        multiply_add<Element>(score[tile][2 * pair + 1], query_[tile][step], key[at % 2][2], key[at % 2][3]);
      }
    }
  }

  // Weights of 16 rows as the left operands of their product with the values: sums of 16 x 8 for keys 16 s and on, and
  // 16 s + 8 and on, lie as one of 16 x 16 must; of float, each as one of 16 x 8 for keys in another order.
  template <int kGroups>
  static __device__ __forceinline__ void pack_weights(uint32_t (&to)[kOperands * kGroups][4],
                                                      const float (&weight)[2 * kGroups][4]) {
#pragma unroll
    for (int step = 0; step < kOperands * kGroups; ++step)
#pragma unroll
      for (int i = 0; i < 4; ++i)
        if constexpr (kOperands == 2)
          to[step][i] = rounded_to_tf32(bits_of(weight[step][weight_of_key(i)]));
        else
          to[step][i] = pack<Value>(weight[2 * step + i / 2][2 * (i % 2)], weight[2 * step + i / 2][2 * (i % 2) + 1]);
  }

  template <int kGroups>
  __device__ __forceinline__ void add_values(const uint32_t (&weight)[kRowTiles][kOperands * kGroups][4],
                                             uint32_t values) {
    if constexpr (kOperands == 2)
      add_values_as_read<kOperands * kGroups>(weight, values);
    else
      add_values_transposed<kGroups>(weight, values);
  }

  // Sums of weights times values, as mma.sync leaves them.
  __device__ __forceinline__ float (&context())[kRowTiles][kValueColumns][4] { return context_; }

 private:
  static __device__ __forceinline__ uint32_t place_of_lane(Place place) {
    return swizzled<kHeadSize, sizeof(Element)>(place.row, place.chunk);
  }

  // Of queries and keys.
  static __device__ __forceinline__ void round_operands(uint32_t (&words)[4]) {
    if constexpr (sizeof(Element) == 4) {
#pragma unroll
      for (int i = 0; i < 4; ++i) words[i] = rounded_to_tf32(words[i]);
    }
  }

  template <int kGroups>
  __device__ __forceinline__ void add_values_transposed(const uint32_t (&weight)[kRowTiles][kGroups][4],
                                                        uint32_t values) {
    values += kKeepsPlaces ? value_place_ : place_of_lane(place_by_columns(lane_of_warp()));
    constexpr int kPairs = kValueColumns / 2;
    uint32_t value[2][4];
    load_matrices_transposed(value[0], values);
#pragma unroll
    for (int at = 0; at < kGroups * kPairs; ++at) {
      const int step = at / kPairs, pair = at % kPairs, next = at + 1;
      if (next < kGroups * kPairs)
        load_matrices_transposed(value[next % 2],
                                 pairs_further(values, next % kPairs) + next / kPairs * 16 * kRowBytes);
#pragma unroll
      for (int tile = 0; tile < kRowTiles; ++tile) {
        multiply_add<Value>(context_[tile][2 * pair], weight[tile][step], value[at % 2][0], value[at % 2][1]);
        multiply_add<Value>(context_[tile][2 * pair + 1], weight[tile][step], value[at % 2][2], value[at % 2][3]);
      }
    }
  }

  // 8 keys a step, as mma_layout.h orders them.
  template <int kValueSteps>
  __device__ __forceinline__ void add_values_as_read(const uint32_t (&weight)[kRowTiles][kValueSteps][4],
                                                     uint32_t values) {
    const int lane = lane_of_warp();
    uint32_t place[2], value[2][2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      place[i] = values + place_of_lane({sum_column(lane, i), lane / 16}) + lane / 4 % 4 * 4;
      value[0][i] = load_shared(place[i]);
    }
#pragma unroll
    for (int at = 0; at < kValueSteps * kValueColumns; ++at) {
      const int step = at / kValueColumns, column = at % kValueColumns, next = at + 1;
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        if (next < kValueSteps * kValueColumns)
          value[next % 2][i] =
              load_shared(pairs_further(place[i], next % kValueColumns) + next / kValueColumns * 8 * kRowBytes);
        value[at % 2][i] = rounded_to_tf32(value[at % 2][i]);
      }
#pragma unroll
      for (int tile = 0; tile < kRowTiles; ++tile)
        multiply_add<Value>(context_[tile][column], weight[tile][step], value[at % 2][0], value[at % 2][1]);
    }
  }

  uint32_t key_place_, value_place_;  // in shared memory, of a tile, where this lane begins to read
  uint32_t query_[kRowTiles][kSteps][4];
  float context_[kRowTiles][kValueColumns][4];
};

}  // namespace lat
