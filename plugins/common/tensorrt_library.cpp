// liblat_trt.so: what TensorRT's plugin registry asks of a library. Nothing of TensorRT is linked.
#include <atomic>
#include <cstdio>

#include "common/tensorrt_op.h"

namespace lat::trt {
namespace {

std::atomic<nvinfer1::ILoggerFinder*> finder{nullptr};

nvinfer1::ILogger* find_logger() noexcept {
  try {
    nvinfer1::ILoggerFinder* it = finder.load();
    return it == nullptr ? nullptr : it->findLogger();
  } catch (...) {
    return nullptr;
  }
}

}  // namespace

std::vector<nvinfer1::IPluginCreatorInterface*>& all_creators() {
  static std::vector<nvinfer1::IPluginCreatorInterface*> creators;
  return creators;
}

void log_error(const std::string& text) noexcept {
  if (nvinfer1::ILogger* logger = find_logger())
    logger->log(nvinfer1::ILogger::Severity::kERROR, text.c_str());
  else
    std::fprintf(stderr, "error: %s\n", text.c_str());
}

}  // namespace lat::trt

extern "C" LAT_EXPORT nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& count) {
  const auto& creators = lat::trt::all_creators();
  count = static_cast<int32_t>(creators.size());
  return creators.data();
}

extern "C" LAT_EXPORT void setLoggerFinder(nvinfer1::ILoggerFinder* finder) { lat::trt::finder.store(finder); }
