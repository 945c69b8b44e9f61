// lat::LshCumulation in TensorRT.
#include "common/tensorrt_op.h"
#include "lsh_cumulation/contract.h"

namespace lat::trt {
namespace {

const Registration<LshCumulation, lat_lsh_cumulation_cuda, lat_lsh_cumulation_cuda_workspace> registration;

}  // namespace
}  // namespace lat::trt
