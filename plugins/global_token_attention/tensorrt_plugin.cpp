// lat::GlobalTokenAttention in TensorRT.
#include "common/tensorrt_op.h"
#include "global_token_attention/contract.h"

namespace lat::trt {
namespace {

const Registration<GlobalTokenAttention, lat_global_token_attention_cuda, lat_global_token_attention_cuda_workspace>
    registration;

}  // namespace
}  // namespace lat::trt
