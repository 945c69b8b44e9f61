// lat::BandedWindowAttention as engines see it: exporter/lat_export/ops/banded_window_attention.py for the adapters.
#pragma once

#include "banded_window_attention/kernel.h"
#include "common/contract.h"

namespace lat {

struct BandedWindowAttention {
  static constexpr const char* name = "BandedWindowAttention";

  static const std::vector<Attribute>& attributes() {
    static const std::vector<Attribute> all = {
        {"num_heads", Kind::integer, 'H'}, {"window", Kind::integer, 'W'}, {"scale", Kind::real}};
    return all;
  }

  static const std::vector<Port>& ports() {
    static const std::vector<Port> all = {
        {"query", "BNE"}, {"key", "BNE"}, {"value", "BNE"}, {"attention_mask", "BN", Storage::int32}};
    return all;
  }

  static lat_banded_window_attention_args args(const KernelCall& call) {
    lat_banded_window_attention_args args{};
    args.batch = call.size('B');
    args.tokens = call.size('N');
    args.width = call.size('E');
    args.num_heads = call.size('H');
    args.window = call.size('W');
    args.scale = call.real(2);
    args.dtype = call.dtype;
    args.query = call.rows(0);
    args.key = call.rows(1);
    args.value = call.rows(2);
    args.attention_mask = call.integers(3);
    args.output = call.output_rows();
    return args;
  }
};

}  // namespace lat
