// Sizes and buffers of one call of lat::NystromAttention.
#pragma once

#include "common/matrix_product.h"
#include "common/panel.h"
#include "common/row_attention.h"
#include "common/storage.h"
#include "nystrom_attention/kernel.h"

namespace lat::LAT_ARCH {

inline constexpr int64_t kBlock = 4 * kPanelRows;              // rows of one piece of the last pass
inline constexpr int64_t kChunk = 128;                         // keys, or landmarks, that an attention takes at a time
inline constexpr int64_t kSegment = 1024;                      // fewest keys of one piece of the pass over keys
inline constexpr int64_t kMostSegments = 8;                    // of one head; at most kMostParts
inline constexpr int64_t kTapsRows = tile_rows(kTileVectors);  // rows of one product of the convolution

struct Plan {
  explicit Plan(const lat_nystrom_attention_args& args)
      : args(args),
        heads(args.batch * args.num_heads),
        width(args.width),
        head_size(args.width / args.num_heads),
        padded(round_up(head_size, kLanes)),
        landmarks(args.num_landmarks),
        padded_landmarks(round_up(landmarks, kLanes)),
        panels(pieces(landmarks, kPanelRows)),
        rows_per_landmark(args.tokens / landmarks),
        segments(smaller_of(kMostSegments, pieces(args.tokens, kSegment))),
        segment_keys(pieces(args.tokens, segments)),
        blocks(pieces(args.tokens, kBlock)),
        // Taps further out than the sequence is long meet only zeros.
        half_taps(args.conv_weight == nullptr ? 0 : smaller_of(args.taps / 2, args.tokens - 1)),
        scale(1.0f / __builtin_sqrtf(static_cast<float>(head_size))) {}

  // Of one head: see Landmarks.
  int64_t landmark_floats() const { return 3 * landmarks * padded + landmarks * padded_landmarks; }
  // Of one head: what RowAttention::save writes, [panels][segments].
  int64_t part_floats() const { return panels * segments * RowAttention::part_floats(head_size); }

  // Scratch of a worker, by pass.
  int64_t mean_floats() const { return 3 * round_up(width, kLanes); }
  int64_t attention_floats() const { return RowAttention::floats(head_size, kChunk); }
  int64_t key_floats() const { return attention_floats() + KeyChunk::floats(head_size, kChunk); }
  int64_t inverse_floats() const { return 4 * landmarks * padded_landmarks + landmarks * padded; }
  int64_t padded_taps() const { return round_up(2 * half_taps + 1 + 2 * (kTapsRows - 1), 16); }
  int64_t halo_rows() const { return kBlock + 2 * half_taps + kTapsRows; }
  int64_t output_floats() const {
    return attention_floats() + kPanelRows * padded + padded_taps() + halo_rows() * padded;
  }
  int64_t scratch_floats() const {
    int64_t most = larger_of(mean_floats(), head_size * kPanelRows);
    for (const int64_t pass : {key_floats(), inverse_floats(), output_floats()}) most = larger_of(most, pass);
    return round_up(most, 16);
  }

  // The rows of one head of the batch.
  Rows rows(const lat_rows& all, int64_t head) const {
    return Rows(args.dtype, all, head / args.num_heads, head % args.num_heads * head_size, head_size);
  }

  const lat_nystrom_attention_args& args;
  int64_t heads, width, head_size, padded, landmarks, padded_landmarks, panels, rows_per_landmark, segments,
      segment_keys, blocks, half_taps;
  float scale;
};

// What the passes of one head hand on to each other; rows of L are `padded_landmarks` apart, rows of D `padded`.
struct Landmarks {
  Landmarks(const Plan& plan, float* from)
      : of_query(from),
        of_key(of_query + plan.landmarks * plan.padded),
        summary(of_key + plan.landmarks * plan.padded),
        kernel_2(summary + plan.landmarks * plan.padded) {}

  float *of_query, *of_key;  // (L, D): means of queries, of keys
  float* summary;            // (L, D): inverse x (kernel_3 x values)
  float* kernel_2;           // (L, L)
};

}  // namespace lat::LAT_ARCH
