#include "manifest.h"

#include <sys/utsname.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "error.h"
#include "failure.h"

namespace lat_edge {
namespace {

using lat_run::Json;

// `SCHEMA` of exporter/lat_export/deploy/edge.py.
constexpr std::int64_t kSchema = 1;
constexpr char kFile[] = "edge.json";

lat_dtype dtype_named(const std::string& name) {
  for (const NamedType& type : kTypes)
    if (name == type.name) return type.dtype;
  throw lat_run::Error("an unknown element type: " + name);
}

Port read_port(const Json& found) {
  Port port{found.at("name").text(), dtype_named(found.at("dtype").text()), {}, {}, 0};
  for (const Json& dim : found.at("dims").items()) {
    port.dims.push_back(dim.is_text() ? -1 : dim.whole());
    port.dim_names.push_back(dim.is_text() ? dim.text() : "");
  }
  if (const Json& below = found.at("below"); !below.is_null()) port.below = below.whole();
  return port;
}

std::vector<Port> read_ports(const Json& found) {
  std::vector<Port> ports;
  for (const Json& one : found.items()) ports.push_back(read_port(one));
  return ports;
}

std::string text_or_empty(const Json& found) { return found.is_null() ? "" : found.text(); }

std::optional<std::int64_t> whole_or_none(const Json& found) {
  return found.is_null() ? std::nullopt : std::optional(found.whole());
}

Manifest read(const Json& found) {
  if (found.at("schema").whole() != kSchema)
    throw lat_run::Error("schema " + std::to_string(found.at("schema").whole()) + ", expected " +
                         std::to_string(kSchema));
  Manifest manifest;
  manifest.family = found.at("family").text();
  manifest.task = found.at("task").text();
  manifest.precision = found.at("precision").text();
  manifest.platform = found.at("platform").text();
  manifest.model = found.at("model").text();
  manifest.onnxruntime = found.at("onnxruntime").text();
  manifest.native_ops = text_or_empty(found.at("native_ops"));
  manifest.inputs = read_ports(found.at("inputs"));
  manifest.outputs = read_ports(found.at("outputs"));
  manifest.pad_token_id = found.at("pad_token_id").whole();
  manifest.max_tokens = found.at("max_tokens").whole();
  manifest.multiple_of = std::max<std::int64_t>(1, found.at("multiple_of").whole());
  manifest.first_position = found.at("first_position").whole();
  manifest.separator = whole_or_none(found.at("sep_token_id"));
  manifest.mask_token_id = whole_or_none(found.at("mask_token_id"));
  manifest.default_globals = found.at("default_globals").text();
  manifest.problem_type = text_or_empty(found.at("problem_type"));
  for (const Json& label : found.at("labels").items()) manifest.labels.push_back(label.text());
  manifest.why_no_text = text_or_empty(found.at("why_no_text"));
  manifest.tokenizer = found.at("tokenizer");
  if (manifest.tokenizer.is_null() && manifest.why_no_text.empty()) throw lat_run::Error("no tokenizer and no reason");
  return manifest;
}

// Before a library of another processor is opened: what the system says of that one is hard to understand.
void check_processor(const Manifest& manifest) {
  utsname machine{};
  if (uname(&machine) == 0 && manifest.platform != machine.machine)
    throw Failure(LAT_MISSING, "the folder is for another processor",
                  {machine.machine, manifest.platform,
                   "lat-export bundle --format edge --platform " + std::string(machine.machine)});
}

}  // namespace

bool Manifest::has_choices() const { return task == "multiple-choice"; }

std::string Manifest::label(std::size_t index) const {
  return index < labels.size() ? labels[index] : "LABEL_" + std::to_string(index);
}

const Port* Manifest::input(const std::string& name) const {
  const auto place = std::find_if(inputs.begin(), inputs.end(), [&](const Port& port) { return port.name == name; });
  return place == inputs.end() ? nullptr : &*place;
}

std::string read_file(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  std::ostringstream text;
  if (!stream || !(text << stream.rdbuf()))
    throw bad_input("a file of the folder cannot be read",
                    {path, "", "the folder is what lat-export bundle --format edge wrote"});
  return text.str();
}

Manifest read_manifest(const std::string& folder) {
  const std::string path = folder + "/" + kFile, text = read_file(path);
  try {
    Manifest manifest = read(Json::parse(text));
    manifest.folder = folder;
    check_processor(manifest);
    return manifest;
  } catch (const lat_run::Error& error) {
    throw bad_input("edge.json is damaged, or of another version", {path + ": " + error.what(), "", ""});
  }
}

}  // namespace lat_edge
