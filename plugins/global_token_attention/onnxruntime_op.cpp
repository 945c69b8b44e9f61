// lat::GlobalTokenAttention in onnxruntime (CPU).
#include "common/onnxruntime_op.h"

#include "global_token_attention/kernel.h"

namespace lat::ort {
namespace {

class GlobalTokenAttention {
 public:
  static constexpr const char* name = "GlobalTokenAttention";

  static const std::vector<Port>& ports() {
    static const std::vector<Port> all = {{"hidden_states", "BNE"}, {"attention_mask", "BN", Storage::int32},
                                          {"query_weight", "EE"},   {"query_bias", "E"},
                                          {"key_weight", "EE"},     {"value_weight", "EE"},
                                          {"value_bias", "E"}};
    return all;
  }

  static void infer_shape(OrtShapeInferContext* context) { infer_like_first_input(context); }

  explicit GlobalTokenAttention(const OrtKernelInfo* info)
      : num_heads_(int_attribute(info, "num_heads")), scale_(float_attribute(info, "scale")) {}

  void compute(Call& call, lat_dtype dtype) const {
    lat_global_token_attention_args args{};
    args.batch = call.size('B');
    args.tokens = call.size('N');
    args.width = call.size('E');
    args.num_heads = num_heads_;
    args.scale = scale_;
    args.dtype = dtype;
    args.form = LAT_BY_COST;
    args.hidden_states = call.rows(std::size_t{0});
    args.attention_mask = call.integers(1);
    args.query_weight = call.data(2);
    args.query_bias = call.data(3);
    args.key_weight = call.data(4);
    args.value_weight = call.data(5);
    args.value_bias = call.data(6);
    args.output = call.rows(call.output({args.batch, args.tokens, args.width}));
    const lat_parallel parallel = call.parallel();
    lat_status status;
    lat_global_token_attention_cpu(&args, &parallel, &status);
    raise(name, status);
  }

 private:
  int64_t num_heads_;
  float scale_;
};

const Registration<GlobalTokenAttention> registration;

}  // namespace
}  // namespace lat::ort
