// lat::BernoulliExpectation in onnxruntime (CPU).
#include "common/onnxruntime_op.h"

#include "bernoulli_expectation/kernel.h"

namespace lat::ort {
namespace {

class BernoulliExpectation {
 public:
  static constexpr const char* name = "BernoulliExpectation";

  static const std::vector<Port>& ports() {
    static const std::vector<Port> all = {
        {"query", "BNE"}, {"key", "BNE"}, {"value", "BNE"}, {"attention_mask", "BN", Storage::int32}};
    return all;
  }

  static void infer_shape(OrtShapeInferContext* context) { infer_like_first_input(context); }

  explicit BernoulliExpectation(const OrtKernelInfo* info)
      : num_heads_(int_attribute(info, "num_heads")), hash_code_len_(int_attribute(info, "hash_code_len")) {}

  void compute(Call& call, lat_dtype dtype) const {
    lat_bernoulli_expectation_args args{};
    args.batch = call.size('B');
    args.tokens = call.size('N');
    args.width = call.size('E');
    args.num_heads = num_heads_;
    args.query = call.rows(std::size_t{0});
    args.key = call.rows(std::size_t{1});
    args.value = call.rows(std::size_t{2});
    args.attention_mask = call.integers(3);
    args.dtype = dtype;
    args.hash_code_len = hash_code_len_;
    args.output = call.rows(call.output({args.batch, args.tokens, args.width}));
    const lat_parallel parallel = call.parallel();
    lat_status status;
    lat_bernoulli_expectation_cpu(&args, &parallel, &status);
    raise(name, status);
  }

 private:
  int64_t num_heads_, hash_code_len_;
};

const Registration<BernoulliExpectation> registration;

}  // namespace
}  // namespace lat::ort
