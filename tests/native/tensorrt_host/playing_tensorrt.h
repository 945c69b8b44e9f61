// The part of TensorRT that a plugin meets: symbolic dimensions, an execution context's resources, a logger.
#pragma once

#include <NvInferRuntime.h>

#include <deque>
#include <memory>
#include <string>
#include <vector>

namespace playing {

using namespace nvinfer1;

// A number, or a name for a size that is known at run time only. Sums and products of numbers are numbers.
class Dimension final : public IDimensionExpr, private apiv::VDimensionExpr {
 public:
  explicit Dimension(int64_t value) : constant_(true), value_(value) { mImpl = this; }
  explicit Dimension(std::string symbol) : symbol_(std::move(symbol)) { mImpl = this; }

  const std::string& symbol() const { return symbol_; }

 private:
  bool isConstant() const override { return constant_; }
  int64_t getConstantValue() const override { return constant_ ? value_ : INT64_MIN; }
  bool isSizeTensor() const override { return false; }

  bool constant_ = false;
  int64_t value_ = 0;
  std::string symbol_;
};

class Expressions final : public IExprBuilder, private apiv::VExprBuilder {
 public:
  Expressions() { mImpl = this; }

  const Dimension* number(int64_t value) { return &made_.emplace_back(value); }
  const Dimension* symbol(const std::string& name) { return &made_.emplace_back(name); }

 private:
  const IDimensionExpr* constant(int64_t value) override { return number(value); }
  const IDimensionExpr* operation(DimensionOperation operation, const IDimensionExpr& first,
                                  const IDimensionExpr& second) override {
    if (!first.isConstant() || !second.isConstant()) return symbol("an operation");
    const int64_t a = first.getConstantValue(), b = second.getConstantValue();
    switch (operation) {
      case DimensionOperation::kSUM:
        return number(a + b);
      case DimensionOperation::kPROD:
        return number(a * b);
      case DimensionOperation::kSUB:
        return number(a - b);
      case DimensionOperation::kFLOOR_DIV:
        return number(a / b);
      case DimensionOperation::kCEIL_DIV:
        return number((a + b - 1) / b);
      case DimensionOperation::kMAX:
        return number(a > b ? a : b);
      case DimensionOperation::kMIN:
        return number(a < b ? a : b);
      case DimensionOperation::kEQUAL:
        return number(a == b);
      case DimensionOperation::kLESS:
        return number(a < b);
    }
    return nullptr;
  }
  const IDimensionExpr* declareSizeTensor(int32_t, const IDimensionExpr&, const IDimensionExpr&) override {
    return nullptr;
  }

  std::deque<Dimension> made_;  // addresses stay
};

class Resources final : public IPluginResourceContext {
 public:
  IGpuAllocator* getGpuAllocator() const noexcept override { return nullptr; }
  IErrorRecorder* getErrorRecorder() const noexcept override { return nullptr; }
};

class Logger final : public ILogger {
 public:
  void log(Severity severity, const char* text) noexcept override {
    if (severity <= Severity::kERROR) errors.emplace_back(text);
  }
  std::vector<std::string> errors;
};

class LoggerFinder final : public ILoggerFinder {
 public:
  explicit LoggerFinder(ILogger& logger) : logger_(logger) {}
  ILogger* findLogger() override { return &logger_; }

 private:
  ILogger& logger_;
};

inline Dims dims_of(const std::vector<int64_t>& shape) {
  Dims dims{};
  dims.nbDims = static_cast<int32_t>(shape.size());
  for (std::size_t at = 0; at < shape.size(); ++at) dims.d[at] = shape[at];
  return dims;
}

}  // namespace playing
