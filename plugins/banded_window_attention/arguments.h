// What BandedWindowAttention asks of its arguments on every device, beyond rows and mask.
#pragma once

#include "banded_window_attention/kernel.h"
#include "common/arguments.h"

namespace lat {

// Sizes and attributes; no pointer is looked at. Inlined for the sake of the CPU's instruction sets (see cpu_arch.h).
__attribute__((always_inline)) inline void check_sizes(ArgumentCheck& check,
                                                       const lat_banded_window_attention_args& args) {
  check.sizes(args.dtype, args.batch, args.tokens, args.width, args.num_heads);
  check.size("window", args.window);
  check.positive("scale", args.scale);
  check.range("allow_tf32", args.allow_tf32, 0, 1);
}

}  // namespace lat
