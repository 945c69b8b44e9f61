// lat::NystromAttention in onnxruntime.
#include "common/onnxruntime_op.h"

#include "nystrom_attention/contract.h"

namespace lat::ort {
namespace {

const Registration<CpuKernel<NystromAttention, lat_nystrom_attention_cpu>> on_cpu;
#ifdef LAT_WITH_CUDA
const Registration<CudaKernel<NystromAttention, lat_nystrom_attention_cuda, lat_nystrom_attention_cuda_workspace>>
    on_cuda;
#endif

}  // namespace
}  // namespace lat::ort
