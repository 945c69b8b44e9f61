// The C entry of lat::BernoulliExpectation: checks its arguments, then calls the best build for this processor.
#include "kernel.h"

#include "block_dispatch.h"
#include "block_status.h"

namespace lat {

using Kernel = void(const lat_bernoulli_expectation_args&, const lat_parallel*, lat_status*);
#if defined(__aarch64__)
namespace neon {
Kernel bernoulli_expectation;
}
#else
namespace scalar {
Kernel bernoulli_expectation;
}
namespace avx2 {
Kernel bernoulli_expectation;
}
namespace avx512 {
Kernel bernoulli_expectation;
}
#endif

namespace {

constexpr const char* kOp = "BernoulliExpectation";

Arch arch() {
  static const Arch chosen = choose_arch();
  return chosen;
}

bool accept(const lat_bernoulli_expectation_args* args, const lat_parallel* parallel, lat_status* status) {
  Checks check(kOp, status);
  check.pointer("args", args);
  if (!check.passed()) return false;
  check.parallel(parallel);
  check.arch(arch());
  check.dtype(&args->dtype);
  check.size("batch", args->batch);
  check.size("tokens", args->tokens);
  check.size("num_heads", args->num_heads);
  check.size("head_size", args->head_size);
  check.size("hash_code_len", args->hash_code_len);
  check.bytes("query", args->batch, args->tokens, args->num_heads, args->head_size);
  check.pointer("query", args->query);
  check.pointer("key", args->key);
  check.pointer("value", args->value);
  check.pointer("attention_mask", args->attention_mask);
  check.pointer("output", args->output);
  return check.passed();
}

}  // namespace
}  // namespace lat

const char* lat_bernoulli_expectation_cpu_arch(void) { return lat::arch_name(lat::arch()); }

void lat_bernoulli_expectation_cpu(const lat_bernoulli_expectation_args* args, const lat_parallel* parallel,
                                   lat_status* status) {
  if (!lat::accept(args, parallel, status)) return;
  switch (lat::arch()) {
#if defined(__aarch64__)
    case lat::Arch::kNeon:
      return lat::neon::bernoulli_expectation(*args, parallel, status);
#else
    case lat::Arch::kAvx512:
      return lat::avx512::bernoulli_expectation(*args, parallel, status);
    case lat::Arch::kAvx2:
      return lat::avx2::bernoulli_expectation(*args, parallel, status);
#endif
    default:
      break;
  }
#if !defined(__aarch64__)
  lat::scalar::bernoulli_expectation(*args, parallel, status);
#endif
}
