// The C entry of lat::NystromAttention: checks its arguments, then calls the best build for this processor.
#include "kernel.h"

#include "block_dispatch.h"
#include "block_status.h"

namespace lat {

using Kernel = void(const lat_nystrom_attention_args&, const lat_parallel*, lat_status*);
#if defined(__aarch64__)
namespace neon {
Kernel nystrom_attention;
}
#else
namespace scalar {
Kernel nystrom_attention;
}
namespace avx2 {
Kernel nystrom_attention;
}
namespace avx512 {
Kernel nystrom_attention;
}
#endif

namespace {

constexpr const char* kOp = "NystromAttention";

Arch arch() {
  static const Arch chosen = choose_arch();
  return chosen;
}

bool accept(const lat_nystrom_attention_args* args, const lat_parallel* parallel, lat_status* status) {
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
  check.size("num_landmarks", args->num_landmarks);
  check.range("per_head_init", args->per_head_init, 0, 1);
  if (check.passed() && args->tokens % args->num_landmarks != 0) {
    check.fail(
        "sequence length must be a multiple of num_landmarks for lat::%s: got: N=%lld, L=%lld, expected: N %% L == 0",
        kOp, static_cast<long long>(args->tokens), static_cast<long long>(args->num_landmarks));
  }
  if (args->conv_weight != nullptr) check.range("taps", args->taps, 1, INT32_MAX);
  if (check.passed() && args->conv_weight != nullptr && args->taps % 2 == 0) {
    check.fail("a convolution that keeps the length has an odd number of taps: lat::%s got: K=%lld, expected: K odd",
               kOp, static_cast<long long>(args->taps));
  }
  check.bytes("query", args->batch, args->tokens, args->num_heads, args->head_size);
  check.bytes("landmark matrices", args->batch, args->num_heads, args->num_landmarks, args->num_landmarks);
  check.pointer("query", args->query);
  check.pointer("key", args->key);
  check.pointer("value", args->value);
  check.pointer("attention_mask", args->attention_mask);
  check.pointer("output", args->output);
  return check.passed();
}

}  // namespace
}  // namespace lat

const char* lat_nystrom_attention_cpu_arch(void) { return lat::arch_name(lat::arch()); }

void lat_nystrom_attention_cpu(const lat_nystrom_attention_args* args, const lat_parallel* parallel,
                               lat_status* status) {
  if (!lat::accept(args, parallel, status)) return;
  switch (lat::arch()) {
#if defined(__aarch64__)
    case lat::Arch::kNeon:
      return lat::neon::nystrom_attention(*args, parallel, status);
#else
    case lat::Arch::kAvx512:
      return lat::avx512::nystrom_attention(*args, parallel, status);
    case lat::Arch::kAvx2:
      return lat::avx2::nystrom_attention(*args, parallel, status);
#endif
    default:
      break;
  }
#if !defined(__aarch64__)
  lat::scalar::nystrom_attention(*args, parallel, status);
#endif
}
