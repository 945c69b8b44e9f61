// Sizes and buffers of one call of lat::NystromAttention.
#pragma once

#include "common/block_convert.h"
#include "common/block_matmul.h"
#include "common/block_memory.h"
#include "nystrom_attention/kernel.h"

namespace lat::LAT_ARCH {

inline constexpr int64_t kTile = 64;           // rows of one product
inline constexpr int64_t kBlock = 4 * kTile;   // rows of one piece of the last pass
inline constexpr int64_t kSegment = 1024;      // fewest keys of one piece of the pass over keys
inline constexpr int64_t kMostSegments = 8;    // of one head
inline constexpr float kMaskedScore = -1e30f;  // finite, as in token_mask.py: all padding gives the plain mean

struct Plan {
  explicit Plan(const lat_nystrom_attention_args& args)
      : args(args),
        heads(args.batch * args.num_heads),
        width(args.width),
        head_size(args.width / args.num_heads),
        padded(round_up(head_size, kLanes)),
        landmarks(args.num_landmarks),
        padded_landmarks(round_up(landmarks, kLanes)),
        rows_per_landmark(args.tokens / landmarks),
        segments(smaller(kMostSegments, (args.tokens + kSegment - 1) / kSegment)),
        segment_keys(round_up((args.tokens + segments - 1) / segments, kTile)),
        blocks((args.tokens + kBlock - 1) / kBlock),
        // Taps further out than the sequence is long meet only zeros.
        half_taps(args.conv_weight == nullptr ? 0 : smaller(args.taps / 2, args.tokens - 1)),
        scale(1.0f / __builtin_sqrtf(static_cast<float>(head_size))) {}

  // Of one head: see Landmarks.
  int64_t landmark_floats() const {
    return landmarks * padded + 2 * head_size * padded_landmarks + landmarks * padded_landmarks + landmarks * padded;
  }
  // Of one segment: sums (L, D), largest scores and sums of exponentials (L).
  int64_t segment_floats() const { return landmarks * padded + 2 * padded_landmarks; }

  // Scratch of a worker, by pass.
  int64_t mean_floats() const { return 3 * round_up(width, kLanes); }
  int64_t key_floats() const { return 2 * kTile * padded + (kTile + 1) * padded_landmarks; }
  int64_t inverse_floats() const { return 4 * landmarks * padded_landmarks + landmarks * padded; }
  int64_t padded_taps() const { return round_up(2 * half_taps + 1 + 2 * (kBlockRows - 1), 16); }
  int64_t halo_rows() const { return kBlock + 2 * half_taps + kBlockRows; }
  int64_t output_floats() const {
    return kTile * padded + kTile * padded_landmarks + kTile * padded + padded_taps() + halo_rows() * padded;
  }
  int64_t scratch_floats() const {
    int64_t most = mean_floats();
    for (const int64_t pass : {key_floats(), inverse_floats(), output_floats()}) most = pass > most ? pass : most;
    return round_up(most, 16);
  }

  // The rows of one head of the batch.
  Rows rows(const lat_rows& all, int64_t head) const {
    return Rows(args.dtype, all, head / args.num_heads, head % args.num_heads * head_size, head_size);
  }

  const lat_nystrom_attention_args& args;
  int64_t heads, width, head_size, padded, landmarks, padded_landmarks, rows_per_landmark, segments, segment_keys,
      blocks, half_taps;
  float scale;
};

// What the passes of one head hand on to each other.
struct Landmarks {
  Landmarks(const Plan& plan, float* from)
      : of_query(from),
        query_columns(of_query + plan.landmarks * plan.padded),
        key_columns(query_columns + plan.head_size * plan.padded_landmarks),
        kernel_2(key_columns + plan.head_size * plan.padded_landmarks),
        summary(kernel_2 + plan.landmarks * plan.padded_landmarks) {}

  float* of_query;       // (L, D): means of queries
  float* query_columns;  // (D, L): the same, times D^-1/2
  float* key_columns;    // (D, L): means of keys, times D^-1/2
  float* kernel_2;       // (L, L)
  float* summary;        // (L, D): inverse x (kernel_3 x values)
};

}  // namespace lat::LAT_ARCH
