// lat::NystromAttention in onnxruntime (CPU).
#include "common/onnxruntime_op.h"

#include "nystrom_attention/kernel.h"

namespace lat::ort {
namespace {

class NystromAttention {
 public:
  static constexpr const char* name = "NystromAttention";

  static const std::vector<Port>& ports() {
    static const std::vector<Port> all = {{"query", "BNE"},
                                          {"key", "BNE"},
                                          {"value", "BNE"},
                                          {"attention_mask", "BN", Storage::int32},
                                          {"conv_weight", "HK"}};
    return all;
  }

  static void infer_shape(OrtShapeInferContext* context) { infer_like_first_input(context); }

  explicit NystromAttention(const OrtKernelInfo* info)
      : num_heads_(int_attribute(info, "num_heads")),
        num_landmarks_(int_attribute(info, "num_landmarks")),
        per_head_init_(int_attribute(info, "per_head_init")) {}

  void compute(Call& call, lat_dtype dtype) const {
    lat_nystrom_attention_args args{};
    args.batch = call.size('B');
    args.tokens = call.size('N');
    args.width = call.size('E');
    args.num_heads = num_heads_;
    args.query = call.rows(std::size_t{0});
    args.key = call.rows(std::size_t{1});
    args.value = call.rows(std::size_t{2});
    args.attention_mask = call.integers(3);
    args.dtype = dtype;
    demand_size(name, "conv_weight", "H", call.size('H'), num_heads_);
    args.num_landmarks = num_landmarks_;
    args.per_head_init = static_cast<int32_t>(per_head_init_);
    args.conv_weight = call.data(4);
    args.taps = call.size('K');
    args.output = call.rows(call.output({args.batch, args.tokens, args.width}));
    const lat_parallel parallel = call.parallel();
    lat_status status;
    lat_nystrom_attention_cpu(&args, &parallel, &status);
    raise(name, status);
  }

 private:
  int64_t num_heads_, num_landmarks_, per_head_init_;
};

const Registration<NystromAttention> registration;

}  // namespace
}  // namespace lat::ort
