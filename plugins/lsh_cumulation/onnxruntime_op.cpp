// lat::LshCumulation in onnxruntime.
#include "common/onnxruntime_op.h"

#include "lsh_cumulation/contract.h"

namespace lat::ort {
namespace {

const Registration<CpuKernel<LshCumulation, lat_lsh_cumulation_cpu>> on_cpu;
#ifdef LAT_WITH_CUDA
const Registration<CudaKernel<LshCumulation, lat_lsh_cumulation_cuda, lat_lsh_cumulation_cuda_workspace>> on_cuda;
#endif

}  // namespace
}  // namespace lat::ort
