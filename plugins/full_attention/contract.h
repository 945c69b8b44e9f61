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
    lat_full_attention_args args{};
    args.batch = call.size('B');
    args.tokens = call.size('N');
    args.width = call.size('E');
    args.num_heads = call.size('H');
    args.taps = call.size('K');
    args.dtype = call.dtype;
    args.query = call.rows(0);
    args.key = call.rows(1);
    args.value = call.rows(2);
    args.attention_mask = call.integers(3);
    args.conv_weight = call.data(4);
    args.output = call.output_rows();
    return args;
  }
};

}  // namespace lat
