// Start-up, latency and memory of a folder's model.
#pragma once

#include <string>

#include "lat_runner.h"

namespace lat_edge {

struct BenchSizes {
  std::int64_t tokens = 128;
  std::size_t runs = 100;
};

// JSON to the standard output.
int print_bench(const std::string& folder, const lat_options& options, const BenchSizes& sizes);

}  // namespace lat_edge
