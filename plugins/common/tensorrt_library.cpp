// liblat_trt.so: what TensorRT's plugin registry asks of a library. Nothing of TensorRT is linked.
#include <dlfcn.h>

#include <atomic>
#include <cstdio>
#include <cstring>

#include "common/tensorrt_op.h"

namespace lat::trt {
namespace {

std::atomic<nvinfer1::ILoggerFinder*> finder{nullptr};

// From TensorRT 11 on a logger is a versioned interface, with another table of functions: one of the other kind must
// not be called. Nothing else that a plugin meets differs between 10 and 11. TensorRT-RTX 1.7 has that of 11.
bool has_versioned_logger(int32_t tensorrt_major) { return tensorrt_major != 10; }

// Of the TensorRT that gave a finder: the library that holds its functions. Ours where it does not tell.
int32_t major_of(const nvinfer1::ILoggerFinder* given) {
  int32_t major = NV_TENSORRT_MAJOR;
  const void* functions = nullptr;
  std::memcpy(&functions, static_cast<const void*>(given), sizeof functions);
  Dl_info info{};
  if (dladdr(functions, &info) == 0) return major;
  void* library = dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
  if (library == nullptr) library = dlopen(nullptr, RTLD_LAZY);  // the program itself has no name
  if (library == nullptr) return major;
  if (void* found = dlsym(library, "getInferLibMajorVersion")) major = reinterpret_cast<int32_t (*)()>(found)();
  dlclose(library);
  return major;
}

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

extern "C" LAT_EXPORT void setLoggerFinder(nvinfer1::ILoggerFinder* given) {
  using namespace lat::trt;
  const int32_t major = given == nullptr ? NV_TENSORRT_MAJOR : major_of(given);
  if (has_versioned_logger(major) == has_versioned_logger(NV_TENSORRT_MAJOR)) {
    finder.store(given);
    return;
  }
  std::fprintf(stderr,
               "warning: liblat_trt was built with the headers of TensorRT %d, and this is %d: its errors go here\n",
               NV_TENSORRT_MAJOR, static_cast<int>(major));
}
