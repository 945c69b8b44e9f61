// lat::LshCumulation in onnxruntime.
#include "common/onnxruntime_op.h"

#include "lsh_cumulation/contract.h"

namespace lat::ort {
namespace {

const Registration<CpuKernel<LshCumulation, lat_lsh_cumulation_cpu>> on_cpu;

}  // namespace
}  // namespace lat::ort
