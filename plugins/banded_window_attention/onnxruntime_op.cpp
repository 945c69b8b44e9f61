// lat::BandedWindowAttention in onnxruntime (CPU).
#include "common/onnxruntime_op.h"

#include "banded_window_attention/kernel.h"

namespace lat::ort {
namespace {

class BandedWindowAttention {
 public:
  static constexpr const char* name = "BandedWindowAttention";

  static const std::vector<Port>& ports() {
    static const std::vector<Port> all = {
        {"query", "BNE"}, {"key", "BNE"}, {"value", "BNE"}, {"attention_mask", "BN", Storage::int32}};
    return all;
  }

  static void infer_shape(OrtShapeInferContext* context) { infer_like_first_input(context); }

  explicit BandedWindowAttention(const OrtKernelInfo* info)
      : num_heads_(int_attribute(info, "num_heads")),
        window_(int_attribute(info, "window")),
        scale_(float_attribute(info, "scale")) {}

  void compute(Call& call, lat_dtype dtype) const {
    lat_banded_window_attention_args args{};
    args.batch = call.size('B');
    args.tokens = call.size('N');
    args.width = call.size('E');
    args.num_heads = num_heads_;
    args.window = window_;
    args.scale = scale_;
    args.dtype = dtype;
    args.query = call.rows(std::size_t{0});
    args.key = call.rows(std::size_t{1});
    args.value = call.rows(std::size_t{2});
    args.attention_mask = call.integers(3);
    args.output = call.rows(call.output({args.batch, args.tokens, args.width}));
    const lat_parallel parallel = call.parallel();
    lat_status status;
    lat_banded_window_attention_cpu(&args, &parallel, &status);
    raise(name, status);
  }

 private:
  int64_t num_heads_, window_;
  float scale_;
};

const Registration<BandedWindowAttention> registration;

}  // namespace
}  // namespace lat::ort
