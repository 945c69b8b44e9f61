// lat::NystromAttention in TensorRT.
#include "common/tensorrt_op.h"
#include "nystrom_attention/contract.h"

namespace lat::trt {
namespace {

const Registration<NystromAttention, lat_nystrom_attention_cuda, lat_nystrom_attention_cuda_workspace> registration;

}  // namespace
}  // namespace lat::trt
