// lat::NystromAttention in onnxruntime.
#include "common/onnxruntime_op.h"

#include "nystrom_attention/contract.h"

namespace lat::ort {
namespace {

const Registration<CpuKernel<NystromAttention, lat_nystrom_attention_cpu>> on_cpu;

}  // namespace
}  // namespace lat::ort
