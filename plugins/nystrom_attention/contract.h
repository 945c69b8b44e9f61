// lat::NystromAttention as engines see it: exporter/lat_export/ops/nystrom_attention.py for the adapters.
#pragma once

#include "common/contract.h"
#include "nystrom_attention/kernel.h"

namespace lat {

struct NystromAttention {
  static constexpr const char* name = "NystromAttention";

  static const std::vector<Attribute>& attributes() {
    static const std::vector<Attribute> all = {{"num_heads", Kind::integer, 'H'},
                                               {"num_landmarks", Kind::integer, 'L'},
                                               {"per_head_init", Kind::integer, kNoLetter, 0, 1}};
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

  static lat_nystrom_attention_args args(const KernelCall& call) {
    auto args = attention_args<lat_nystrom_attention_args>(call);
    args.num_landmarks = call.size('L');
    args.per_head_init = static_cast<int32_t>(call.integer(2));
    args.taps = call.size('K');
    args.conv_weight = call.data(4);
    return args;
  }
};

}  // namespace lat
