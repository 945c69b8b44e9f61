// lat::FullAttention as engines see it: exporter/lat_export/ops/full_attention.py for the adapters.
#pragma once

#include "common/contract.h"
#include "full_attention/kernel.h"

namespace lat {

struct FullAttention {
  static constexpr const char* name = "FullAttention";

  static const std::vector<Attribute>& attributes() {
    static const std::vector<Attribute> all = {{"num_heads", Kind::integer, 'H'}};
    return all;
  }

  static const std::vector<Port>& ports() {
    static const std::vector<Port> all = {{"query", "BNE"},
                                          {"key", "BNE"},
                                          {"value", "BNE"},
                                          {"attention_mask", "BN", Storage::int32},
                                          {"conv_weight", "HK"}};
    return all;
  }

  static lat_full_attention_args args(const KernelCall& call) {
    auto args = attention_args<lat_full_attention_args>(call);
    args.taps = call.size('K');
    args.conv_weight = call.data(4);
    return args;
  }
};

}  // namespace lat
