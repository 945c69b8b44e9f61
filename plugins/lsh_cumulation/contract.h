// lat::LshCumulation as engines see it: exporter/lat_export/ops/lsh_cumulation.py for the adapters.
#pragma once

#include "common/contract.h"
#include "lsh_cumulation/kernel.h"

namespace lat {

struct LshCumulation {
  static constexpr const char* name = "LshCumulation";

  static const std::vector<Attribute>& attributes() {
    static const std::vector<Attribute> all = {{"num_heads", Kind::integer, 'H'},
                                               {"num_hash", Kind::integer, 'R'},
                                               {"hash_code_len", Kind::integer, 'T', 1, 16}};
    return all;
  }

  static const std::vector<Port>& ports() {
    static const std::vector<Port> all = {{"query", "BNE"},
                                          {"key", "BNE"},
                                          {"value", "BNE"},
                                          {"attention_mask", "BN", Storage::int32},
                                          {"projection", "H E/H R*T"}};
    return all;
  }

  static lat_lsh_cumulation_args args(const KernelCall& call) {
    auto args = attention_args<lat_lsh_cumulation_args>(call);
    args.num_hash = call.size('R');
    args.hash_code_len = call.size('T');
    args.projection = call.data(4);
    return args;
  }
};

}  // namespace lat
