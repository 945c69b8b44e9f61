// Tensors that a caller gives, before the model sees them. The rules are those of `Signature.check_inputs` in
// exporter/lat_export/types.py.
#pragma once

#include <vector>

#include "lat_runner.h"
#include "manifest.h"

namespace lat_edge {

// In the manifest's order. A `Failure` says which tensor is wrong, what it is and what it should be.
std::vector<lat_tensor> checked(const Manifest& manifest, const lat_tensor* inputs, std::size_t count);

// "(2, 17)".
std::string shape_of(const lat_tensor& tensor);

}  // namespace lat_edge
