// lat::BernoulliExpectation as engines see it: exporter/lat_export/ops/bernoulli_expectation.py for the adapters.
#pragma once

#include "bernoulli_expectation/kernel.h"
#include "common/contract.h"

namespace lat {

struct BernoulliExpectation {
  static constexpr const char* name = "BernoulliExpectation";

  static const std::vector<Attribute>& attributes() {
    static const std::vector<Attribute> all = {{"num_heads", Kind::integer, 'H'},
                                               {"hash_code_len", Kind::integer, 'T'}};
    return all;
  }

  static const std::vector<Port>& ports() {
    static const std::vector<Port> all = {
        {"query", "BNE"}, {"key", "BNE"}, {"value", "BNE"}, {"attention_mask", "BN", Storage::int32}};
    return all;
  }

  static lat_bernoulli_expectation_args args(const KernelCall& call) {
    auto args = attention_args<lat_bernoulli_expectation_args>(call);
    args.hash_code_len = call.size('T');
    return args;
  }
};

}  // namespace lat
