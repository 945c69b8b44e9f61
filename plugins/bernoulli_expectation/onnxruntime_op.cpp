// lat::BernoulliExpectation in onnxruntime.
#include "common/onnxruntime_op.h"

#include "bernoulli_expectation/contract.h"

namespace lat::ort {
namespace {

const Registration<CpuKernel<BernoulliExpectation, lat_bernoulli_expectation_cpu>> on_cpu;

}  // namespace
}  // namespace lat::ort
