#include "model_inputs.h"

#include <algorithm>

#include "failure.h"

namespace lat_edge {
namespace {

// Which tokens a task makes global, as transformers' task heads choose where none are given. `ids`: a row with its
// padding.
std::vector<std::int64_t> default_globals(const Manifest& manifest, const std::vector<std::int64_t>& ids) {
  std::vector<std::int64_t> chosen(ids.size(), 0);
  const std::string& rule = manifest.default_globals;
  if (rule == "first") chosen.front() = 1;
  if (rule == "first" || rule == "none" || !manifest.separator) return chosen;
  const auto place = std::find(ids.begin(), ids.end(), *manifest.separator);
  const std::ptrdiff_t first = place == ids.end() ? 0 : place - ids.begin();
  // Before it, or from the second token after it on.
  for (std::ptrdiff_t at = 0; at < static_cast<std::ptrdiff_t>(ids.size()); ++at)
    chosen[static_cast<std::size_t>(at)] = rule == "before the separator" ? at < first : at > first + 1;
  return chosen;
}

}  // namespace

ModelInputs::ModelInputs(const Manifest& manifest, const std::vector<Encoding>& encodings, const Rows& globals) {
  std::size_t tokens = 0;
  for (const Encoding& one : encodings) tokens = std::max(tokens, one.size());
  const auto step = static_cast<std::size_t>(manifest.multiple_of);
  tokens = (tokens + step - 1) / step * step;
  std::vector<std::int64_t> ids, keep, global, types, positions;
  const Port* type_port = manifest.input("token_type_ids");
  const std::int64_t largest_type = type_port != nullptr && type_port->below > 0 ? type_port->below - 1 : 0;
  for (std::size_t row = 0; row < encodings.size(); ++row) {
    const Encoding& one = encodings[row];
    std::vector<std::int64_t> padded(tokens, manifest.pad_token_id);
    std::copy(one.ids.begin(), one.ids.end(), padded.begin());
    std::vector<std::int64_t> marks = default_globals(manifest, padded);
    if (!globals.empty()) std::copy(globals[row].begin(), globals[row].end(), marks.begin());
    for (std::size_t at = 0; at < tokens; ++at) {
      const bool there = at < one.size();
      keep.push_back(there);
      global.push_back(there ? marks[at] : 0);
      types.push_back(there ? std::min(one.type_ids[at], largest_type) : 0);
      positions.push_back(static_cast<std::int64_t>(at) + manifest.first_position);
    }
    ids.insert(ids.end(), padded.begin(), padded.end());
  }
  dims_ = {1, static_cast<std::int64_t>(encodings.size()), static_cast<std::int64_t>(tokens)};
  if (!manifest.has_choices()) dims_.erase(dims_.begin());
  values_ = {ids, keep, global, types, positions};
  constexpr const char* kNames[] = {"input_ids", "attention_mask", "global_attention_mask", "token_type_ids",
                                    "position_ids"};
  for (const Port& port : manifest.inputs) {
    const auto name = std::find(std::begin(kNames), std::end(kNames), port.name);
    if (name == std::end(kNames))
      throw bad_input("the model takes more than tokens", {port.name, "", "give it tensors: lat_runner_run"});
    const std::vector<std::int64_t>& values = values_[static_cast<std::size_t>(name - std::begin(kNames))];
    tensors_.push_back({port.name.c_str(), LAT_INT64, dims_.size(), dims_.data(), values.data(),
                        values.size() * sizeof(std::int64_t)});
  }
}

}  // namespace lat_edge
