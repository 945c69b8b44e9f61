// What FullAttention asks of its arguments on every device, beyond rows and mask.
#pragma once

#include "common/arguments.h"
#include "full_attention/kernel.h"

namespace lat {

// Sizes and attributes; no pointer is looked at but whether there is a convolution. Inlined for the sake of the CPU's
// instruction sets (see cpu_arch.h).
__attribute__((always_inline)) inline void check_sizes(ArgumentCheck& check, const lat_full_attention_args& args) {
  check.sizes(args.dtype, args.batch, args.tokens, args.width, args.num_heads);
  if (args.conv_weight != nullptr) check.convolution(args.num_heads, args.taps);
}

}  // namespace lat
