// What GlobalTokenAttention asks of its arguments on every device, beyond the values of the mask.
#pragma once

#include "common/arguments.h"
#include "global_token_attention/kernel.h"

namespace lat {

// Sizes and attributes; no pointer is looked at. Inlined for the sake of the CPU's instruction sets (see cpu_arch.h).
__attribute__((always_inline)) inline void check_sizes(ArgumentCheck& check,
                                                       const lat_global_token_attention_args& args) {
  check.sizes(args.dtype, args.batch, args.tokens, args.width, args.num_heads);
  check.positive("scale", args.scale);
  check.range("form", args.form, LAT_BY_COST, LAT_FULL_PROJECTIONS);
  check.elements("query_weight", args.width, args.width);
}

__attribute__((always_inline)) inline void check_pointers(ArgumentCheck& check,
                                                          const lat_global_token_attention_args& args) {
  check.rows("hidden_states", args.hidden_states, args.batch, args.tokens, args.width);
  check.rows("output", args.output, args.batch, args.tokens, args.width);
  check.pointer("attention_mask", args.attention_mask);
  check.pointer("query_weight", args.query_weight);
  check.pointer("query_bias", args.query_bias);
  check.pointer("key_weight", args.key_weight);
  check.pointer("value_weight", args.value_weight);
  check.pointer("value_bias", args.value_bias);
}

}  // namespace lat
