// What NystromAttention asks of its arguments on every device, beyond rows and mask.
#pragma once

#include "common/arguments.h"
#include "nystrom_attention/kernel.h"

namespace lat {

// Sizes and attributes. Inlined for the sake of the CPU's instruction sets (see cpu_arch.h).
__attribute__((always_inline)) inline void check_sizes(ArgumentCheck& check, const lat_nystrom_attention_args& args) {
  check.sizes(args.dtype, args.batch, args.tokens, args.width, args.num_heads);
  check.landmarks(args.tokens, args.num_landmarks);
  check.range("per_head_init", args.per_head_init, 0, 1);
  if (args.conv_weight != nullptr) check.convolution(args.num_heads, args.taps);
  check.elements("landmark matrices", args.batch, args.num_heads, args.num_landmarks, args.num_landmarks);
}

}  // namespace lat
