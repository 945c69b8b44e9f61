// lat::BernoulliExpectation in TensorRT.
#include "bernoulli_expectation/contract.h"
#include "common/tensorrt_op.h"

namespace lat::trt {
namespace {

const Registration<BernoulliExpectation, lat_bernoulli_expectation_cuda, lat_bernoulli_expectation_cuda_workspace>
    registration;

}  // namespace
}  // namespace lat::trt
