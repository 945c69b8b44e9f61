// lat::FullAttention in onnxruntime (CPU).
#include "common/onnxruntime_op.h"

#include "full_attention/kernel.h"

namespace lat::ort {
namespace {

class FullAttention {
 public:
  static constexpr const char* name = "FullAttention";

  static const std::vector<Port>& ports() {
    static const std::vector<Port> all = {{"query", "BNE"},
                                          {"key", "BNE"},
                                          {"value", "BNE"},
                                          {"attention_mask", "BN", Storage::int32},
                                          {"conv_weight", "HK"}};
    return all;
  }

  static void infer_shape(OrtShapeInferContext* context) { infer_like_first_input(context); }

  explicit FullAttention(const OrtKernelInfo* info) : num_heads_(int_attribute(info, "num_heads")) {}

  void compute(Call& call, lat_dtype dtype) const {
    lat_full_attention_args args{};
    args.batch = call.size('B');
    args.tokens = call.size('N');
    args.width = call.size('E');
    args.num_heads = num_heads_;
    demand_size(name, "conv_weight", "H", call.size('H'), num_heads_);
    args.taps = call.size('K');
    args.dtype = dtype;
    args.query = call.rows(std::size_t{0});
    args.key = call.rows(std::size_t{1});
    args.value = call.rows(std::size_t{2});
    args.output = call.rows(call.output({args.batch, args.tokens, args.width}));
    args.attention_mask = call.integers(3);
    args.conv_weight = call.data(4);
    const lat_parallel parallel = call.parallel();
    lat_status status;
    lat_full_attention_cpu(&args, &parallel, &status);
    raise(name, status);
  }

 private:
  int64_t num_heads_;
};

const Registration<FullAttention> registration;

}  // namespace
}  // namespace lat::ort
