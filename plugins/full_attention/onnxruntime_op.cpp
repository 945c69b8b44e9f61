// lat::FullAttention in onnxruntime.
#include "common/onnxruntime_op.h"

#include "full_attention/contract.h"

namespace lat::ort {
namespace {

const Registration<CpuKernel<FullAttention, lat_full_attention_cpu>> on_cpu;
#ifdef LAT_WITH_CUDA
const Registration<CudaKernel<FullAttention, lat_full_attention_cuda, lat_full_attention_cuda_workspace>> on_cuda;
#endif

}  // namespace
}  // namespace lat::ort
