// What BernoulliExpectation asks of its arguments on every device, beyond rows and mask.
#pragma once

#include "bernoulli_expectation/kernel.h"
#include "common/arguments.h"

namespace lat {

// Sizes and attributes; no pointer is looked at. Inlined for the sake of the CPU's instruction sets (see cpu_arch.h).
__attribute__((always_inline)) inline void check_sizes(ArgumentCheck& check,
                                                       const lat_bernoulli_expectation_args& args) {
  check.sizes(args.dtype, args.batch, args.tokens, args.width, args.num_heads);
  check.size("hash_code_len", args.hash_code_len);
}

}  // namespace lat
