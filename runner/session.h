// A model in onnxruntime, whose library is opened at run time: nothing of it is linked.
#pragma once

#include <onnxruntime_c_api.h>

#include <memory>
#include <string>
#include <vector>

#include "lat_runner.h"
#include "manifest.h"

namespace lat_edge {

// Outputs of a run, in onnxruntime's own memory; they outlive no session.
class Result {
 public:
  Result(const OrtApi& api, std::vector<OrtValue*> values, const std::vector<Port>& ports);
  ~Result();
  Result(const Result&) = delete;
  Result& operator=(const Result&) = delete;

  const std::vector<lat_tensor>& tensors() const { return tensors_; }
  const lat_tensor& named(const std::string& name) const;

 private:
  const OrtApi& api_;
  std::vector<OrtValue*> values_;
  std::vector<std::vector<std::int64_t>> dims_;
  std::vector<lat_tensor> tensors_;
};

class Session {
 public:
  // `threads`: of one run, 0 for one a core. `native_ops`: whether to load the manifest's library of them.
  Session(const Manifest& manifest, int threads, bool native_ops);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Checked inputs. Several threads may run at once.
  std::unique_ptr<Result> run(const std::vector<lat_tensor>& inputs) const;

  // Of onnxruntime's library.
  const char* version() const { return runtime_.version; }

 private:
  struct Runtime {
    const OrtApi& api;
    const char* version;
  };
  static Runtime loaded(const std::string& library);

  void check(OrtStatus* status, lat_status kind, const char* what) const;
  void open(const Manifest& manifest, int threads, bool native_ops);
  void close();

  Runtime runtime_;
  const OrtApi& api_;
  const std::vector<Port>& outputs_;
  OrtEnv* environment_ = nullptr;
  OrtSessionOptions* options_ = nullptr;
  OrtMemoryInfo* memory_ = nullptr;
  OrtSession* session_ = nullptr;
};

}  // namespace lat_edge
