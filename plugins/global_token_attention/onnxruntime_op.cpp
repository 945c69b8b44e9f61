// lat::GlobalTokenAttention in onnxruntime.
#include "common/onnxruntime_op.h"

#include "global_token_attention/contract.h"

namespace lat::ort {
namespace {

const Registration<CpuKernel<GlobalTokenAttention, lat_global_token_attention_cpu>> on_cpu;
#ifdef LAT_WITH_CUDA
const Registration<
    CudaKernel<GlobalTokenAttention, lat_global_token_attention_cuda, lat_global_token_attention_cuda_workspace>>
    on_cuda;
#endif

}  // namespace
}  // namespace lat::ort
