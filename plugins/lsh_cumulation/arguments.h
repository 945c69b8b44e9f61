// What LshCumulation asks of its arguments on every device, beyond rows and mask.
#pragma once

#include "common/arguments.h"
#include "lsh_cumulation/kernel.h"

namespace lat {

// Sizes and attributes; no pointer is looked at. Inlined for the sake of the CPU's instruction sets (see cpu_arch.h).
__attribute__((always_inline)) inline void check_sizes(ArgumentCheck& check, const lat_lsh_cumulation_args& args) {
  check.sizes(args.dtype, args.batch, args.tokens, args.width, args.num_heads);
  check.size("num_hash", args.num_hash);
  check.range("hash_code_len", args.hash_code_len, 1, 16);
  check.elements("projection", args.width, args.num_hash, args.hash_code_len);
}

}  // namespace lat
