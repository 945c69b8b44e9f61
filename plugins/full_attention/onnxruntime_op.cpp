// lat::FullAttention in onnxruntime.
#include "common/onnxruntime_op.h"

#include "full_attention/contract.h"

namespace lat::ort {
namespace {

const Registration<CpuKernel<FullAttention, lat_full_attention_cpu>> on_cpu;

}  // namespace
}  // namespace lat::ort
