// edge.json: what lat-export knows of the model, its libraries and its tokenizer.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "dtype.h"
#include "json.h"
#include "lat_runner.h"

namespace lat_edge {

// An input or output of the model.
struct Port {
  std::string name;
  lat_dtype dtype;
  std::vector<std::int64_t> dims;      // -1 where it is dynamic
  std::vector<std::string> dim_names;  // empty where it is fixed
  std::int64_t below = 0;              // 0: no bound
};

struct Manifest {
  std::string folder;
  std::string family, task, precision, platform;
  std::string model, onnxruntime, native_ops;  // files in the folder; no native ops: empty
  std::vector<Port> inputs, outputs;
  std::int64_t pad_token_id = 0, max_tokens = 0, multiple_of = 1, first_position = 0;
  std::optional<std::int64_t> separator, mask_token_id;
  std::string default_globals, problem_type;
  std::vector<std::string> labels;
  std::string why_no_text;
  lat_run::Json tokenizer;  // null where text is not taken

  std::string path(const std::string& file) const { return folder + "/" + file; }
  bool has_choices() const;
  // "LABEL_3" for one that has no name.
  std::string label(std::size_t index) const;
  const Port* input(const std::string& name) const;
};

// Whole text of a file; a `Failure` names it.
std::string read_file(const std::string& path);

// A `Failure` names the file and what is wrong in it, or the processor that the folder is for.
Manifest read_manifest(const std::string& folder);

}  // namespace lat_edge
