// lat::BandedWindowAttention as engines see it: exporter/lat_export/ops/banded_window_attention.py for the adapters.
#pragma once

#include "banded_window_attention/kernel.h"
#include "common/contract.h"

namespace lat {

struct BandedWindowAttention {
  static constexpr const char* name = "BandedWindowAttention";

  static const std::vector<Attribute>& attributes() {
    static const std::vector<Attribute> all = {{"num_heads", Kind::integer, 'H'},
                                               {"window", Kind::integer, 'W'},
                                               {"scale", Kind::real},
                                               {"allow_tf32", Kind::integer, kNoLetter, 0, 1, 0}};
    return all;
  }

  static const std::vector<Port>& ports() {
    static const std::vector<Port> all = {
        {"query", "BNE"}, {"key", "BNE"}, {"value", "BNE"}, {"attention_mask", "BN", Storage::int32}};
    return all;
  }

  static lat_banded_window_attention_args args(const KernelCall& call) {
    auto args = attention_args<lat_banded_window_attention_args>(call);
    args.window = call.size('W');
    args.scale = call.real(2);
    args.allow_tf32 = static_cast<int32_t>(call.integer(3));
    return args;
  }
};

}  // namespace lat
