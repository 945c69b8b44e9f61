// lat::GlobalTokenAttention as engines see it: exporter/lat_export/ops/global_token_attention.py for the adapters.
#pragma once

#include "common/contract.h"
#include "global_token_attention/kernel.h"

namespace lat {

struct GlobalTokenAttention {
  static constexpr const char* name = "GlobalTokenAttention";

  static const std::vector<Attribute>& attributes() {
    static const std::vector<Attribute> all = {{"num_heads", Kind::integer, 'H'}, {"scale", Kind::real}};
    return all;
  }

  static const std::vector<Port>& ports() {
    static const std::vector<Port> all = {{"hidden_states", "BNE"}, {"attention_mask", "BN", Storage::int32},
                                          {"query_weight", "EE"},   {"query_bias", "E"},
                                          {"key_weight", "EE"},     {"value_weight", "EE"},
                                          {"value_bias", "E"}};
    return all;
  }

  static lat_global_token_attention_args args(const KernelCall& call) {
    lat_global_token_attention_args args{};
    args.batch = call.size('B');
    args.tokens = call.size('N');
    args.width = call.size('E');
    args.num_heads = call.size('H');
    args.scale = call.real(1);
    args.dtype = call.dtype;
    args.form = LAT_BY_COST;
    args.hidden_states = call.rows(0);
    args.attention_mask = call.integers(1);
    args.query_weight = call.data(2);
    args.query_bias = call.data(3);
    args.key_weight = call.data(4);
    args.value_weight = call.data(5);
    args.value_bias = call.data(6);
    args.output = call.output_rows();
    return args;
  }
};

}  // namespace lat
