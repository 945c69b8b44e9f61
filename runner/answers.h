// From a model's outputs to an answer, a function a task. What they compute, and what the answers look like, is that of
// exporter/lat_export/answers.py; to ids instead of text, tokens stand where characters and words do.
#pragma once

#include <string>
#include <vector>

#include "encoding.h"
#include "manifest.h"
#include "request.h"
#include "session.h"
#include "tokenizer.h"

namespace lat_edge {

struct Read {
  const Manifest& manifest;
  const Request& request;
  const Tokenizer* tokenizer;  // null where the request has ids
  const std::vector<Encoding>& encodings;
  const Result& outputs;
};

// JSON.
std::string answer_of(const Read& read);

}  // namespace lat_edge
