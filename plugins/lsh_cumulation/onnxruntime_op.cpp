// lat::LshCumulation in onnxruntime (CPU).
#include "common/onnxruntime_op.h"

#include "lsh_cumulation/kernel.h"

namespace lat::ort {
namespace {

class LshCumulation {
 public:
  static constexpr const char* name = "LshCumulation";

  static const std::vector<Port>& ports() {
    static const std::vector<Port> all = {{"query", "BNE"},
                                          {"key", "BNE"},
                                          {"value", "BNE"},
                                          {"attention_mask", "BN", Storage::int32},
                                          {"projection", "HDP"}};
    return all;
  }

  static void infer_shape(OrtShapeInferContext* context) { infer_like_first_input(context); }

  explicit LshCumulation(const OrtKernelInfo* info)
      : num_heads_(int_attribute(info, "num_heads")),
        num_hash_(int_attribute(info, "num_hash")),
        hash_code_len_(int_attribute(info, "hash_code_len")) {}

  void compute(Call& call, lat_dtype dtype) const {
    lat_lsh_cumulation_args args{};
    args.batch = call.size('B');
    args.tokens = call.size('N');
    args.width = call.size('E');
    args.num_heads = num_heads_;
    args.query = call.rows(std::size_t{0});
    args.key = call.rows(std::size_t{1});
    args.value = call.rows(std::size_t{2});
    args.attention_mask = call.integers(3);
    args.dtype = dtype;
    demand_size(name, "projection", "H", call.size('H'), num_heads_);
    demand_size(name, "projection", "D", call.size('D'), head_size(name, args.width, num_heads_));
    demand_size(name, "projection", "R * T", call.size('P'), num_hash_ * hash_code_len_);
    args.num_hash = num_hash_;
    args.hash_code_len = hash_code_len_;
    args.projection = call.data(4);
    args.output = call.rows(call.output({args.batch, args.tokens, args.width}));
    const lat_parallel parallel = call.parallel();
    lat_status status;
    lat_lsh_cumulation_cpu(&args, &parallel, &status);
    raise(name, status);
  }

 private:
  int64_t num_heads_, num_hash_, hash_code_len_;
};

const Registration<LshCumulation> registration;

}  // namespace
}  // namespace lat::ort
