// lat::BernoulliExpectation in onnxruntime.
#include "common/onnxruntime_op.h"

#include "bernoulli_expectation/contract.h"

namespace lat::ort {
namespace {

const Registration<CpuKernel<BernoulliExpectation, lat_bernoulli_expectation_cpu>> on_cpu;
#ifdef LAT_WITH_CUDA
const Registration<
    CudaKernel<BernoulliExpectation, lat_bernoulli_expectation_cuda, lat_bernoulli_expectation_cuda_workspace>>
    on_cuda;
#endif

}  // namespace
}  // namespace lat::ort
