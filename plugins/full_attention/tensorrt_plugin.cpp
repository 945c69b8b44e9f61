// lat::FullAttention in TensorRT.
#include "common/tensorrt_op.h"
#include "full_attention/contract.h"

namespace lat::trt {
namespace {

const Registration<FullAttention, lat_full_attention_cuda, lat_full_attention_cuda_workspace> registration;

}  // namespace
}  // namespace lat::trt
