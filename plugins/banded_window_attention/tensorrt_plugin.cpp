// lat::BandedWindowAttention in TensorRT.
#include "banded_window_attention/contract.h"
#include "common/tensorrt_op.h"

namespace lat::trt {
namespace {

const Registration<BandedWindowAttention, lat_banded_window_attention_cuda, lat_banded_window_attention_cuda_workspace>
    registration;

}  // namespace
}  // namespace lat::trt
