// A request, as JSON brings it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "manifest.h"

namespace lat_edge {

using Rows = std::vector<std::vector<std::int64_t>>;

// Either texts or ids.
struct Request {
  std::optional<std::string> text, question;
  std::vector<std::string> choices;
  Rows ids, type_ids, globals;  // the last two empty where they are left out
  std::size_t top_k = 5;
};

// Of `lat_runner_encode`.
struct Texts {
  std::string text;
  std::optional<std::string> pair;
};

Texts read_texts(const std::string& json, const Manifest& manifest);

// A `Failure` says what the task needs, or does not take.
Request read_request(const std::string& json, const Manifest& manifest);

}  // namespace lat_edge
