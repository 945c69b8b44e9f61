// lat::BandedWindowAttention in onnxruntime.
#include "common/onnxruntime_op.h"

#include "banded_window_attention/contract.h"

namespace lat::ort {
namespace {

const Registration<CpuKernel<BandedWindowAttention, lat_banded_window_attention_cpu>> on_cpu;
#ifdef LAT_WITH_CUDA
const Registration<
    CudaKernel<BandedWindowAttention, lat_banded_window_attention_cuda, lat_banded_window_attention_cuda_workspace>>
    on_cuda;
#endif

}  // namespace
}  // namespace lat::ort
