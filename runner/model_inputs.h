// Tokens to the model's inputs: padding, masks, the task's default global tokens. The rules are those of
// exporter/lat_export/text_inputs.py.
#pragma once

#include <cstdint>
#include <vector>

#include "encoding.h"
#include "lat_runner.h"
#include "manifest.h"
#include "request.h"

namespace lat_edge {

class ModelInputs {
 public:
  // A row for each encoding, of length `tokens` by the longest and the manifest's multiple. `globals`: a row of 0 and 1
  // for each, or empty for the task's own.
  ModelInputs(const Manifest& manifest, const std::vector<Encoding>& encodings, const Rows& globals);

  // They point into this object.
  const std::vector<lat_tensor>& tensors() const { return tensors_; }

 private:
  std::vector<std::vector<std::int64_t>> values_;
  std::vector<std::int64_t> dims_;
  std::vector<lat_tensor> tensors_;
};

}  // namespace lat_edge
