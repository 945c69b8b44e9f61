// The C entry of lat::LshCumulation: checks its arguments, then calls the best build for this processor.
#include "kernel.h"

#include "block_dispatch.h"
#include "block_status.h"

namespace lat {

using Kernel = void(const lat_lsh_cumulation_args&, const lat_parallel*, lat_status*);
#if defined(__aarch64__)
namespace neon {
Kernel lsh_cumulation;
}
#else
namespace scalar {
Kernel lsh_cumulation;
}
namespace avx2 {
Kernel lsh_cumulation;
}
namespace avx512 {
Kernel lsh_cumulation;
}
#endif

namespace {

constexpr const char* kOp = "LshCumulation";

Arch arch() {
  static const Arch chosen = choose_arch();
  return chosen;
}

bool accept(const lat_lsh_cumulation_args* args, const lat_parallel* parallel, lat_status* status) {
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
  check.size("num_hash", args->num_hash);
  check.range("hash_code_len", args->hash_code_len, 1, 16);
  check.bytes("query", args->batch, args->tokens, args->num_heads, args->head_size);
  check.bytes("projection", args->num_heads, args->head_size, args->num_hash, args->hash_code_len);
  check.bytes("hash codes", 16, 2, args->tokens, args->num_hash);
  check.pointer("query", args->query);
  check.pointer("key", args->key);
  check.pointer("value", args->value);
  check.pointer("attention_mask", args->attention_mask);
  check.pointer("projection", args->projection);
  check.pointer("output", args->output);
  return check.passed();
}

}  // namespace
}  // namespace lat

const char* lat_lsh_cumulation_cpu_arch(void) { return lat::arch_name(lat::arch()); }

void lat_lsh_cumulation_cpu(const lat_lsh_cumulation_args* args, const lat_parallel* parallel, lat_status* status) {
  if (!lat::accept(args, parallel, status)) return;
  switch (lat::arch()) {
#if defined(__aarch64__)
    case lat::Arch::kNeon:
      return lat::neon::lsh_cumulation(*args, parallel, status);
#else
    case lat::Arch::kAvx512:
      return lat::avx512::lsh_cumulation(*args, parallel, status);
    case lat::Arch::kAvx2:
      return lat::avx2::lsh_cumulation(*args, parallel, status);
#endif
    default:
      break;
  }
#if !defined(__aarch64__)
  lat::scalar::lsh_cumulation(*args, parallel, status);
#endif
}
