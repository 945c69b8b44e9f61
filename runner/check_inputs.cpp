#include "check_inputs.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <map>

#include "array.h"
#include "failure.h"

namespace lat_edge {
namespace {

std::string text_of(const Port& port) {
  std::string text = "(";
  for (std::size_t at = 0; at < port.dims.size(); ++at)
    text += (at != 0 ? ", " : "") + (port.dims[at] < 0 ? port.dim_names[at] : std::to_string(port.dims[at]));
  return text + ")";
}

const lat_tensor& named(const Port& port, const lat_tensor* inputs, std::size_t count) {
  const lat_tensor* found = nullptr;
  for (std::size_t at = 0; at < count; ++at) {
    if (port.name != inputs[at].name) continue;
    if (found != nullptr) throw bad_input("input " + port.name + " is there twice");
    found = inputs + at;
  }
  if (found == nullptr) throw bad_input("input " + port.name + " is missing", {"", text_of(port), ""});
  return *found;
}

void check_shape(const Port& port, const lat_tensor& tensor, std::map<std::string, std::int64_t>& sizes) {
  const std::string in = " of input " + port.name;
  if (tensor.dtype != port.dtype) throw bad_input("wrong dtype" + in, {name_of(tensor.dtype), name_of(port.dtype), ""});
  if (tensor.rank != port.dims.size()) throw bad_input("wrong rank" + in, {shape_of(tensor), text_of(port), ""});
  for (std::size_t at = 0; at < tensor.rank; ++at) {
    const std::int64_t size = tensor.dims[at];
    const std::int64_t expected =
        port.dims[at] >= 0 ? port.dims[at] : sizes.emplace(port.dim_names[at], size).first->second;
    if (size != expected || size < 1)
      throw bad_input("wrong size" + in, {shape_of(tensor),
                                          port.dims[at] >= 0 ? text_of(port)
                                                             : port.dim_names[at] + " = " + std::to_string(expected) +
                                                                   (expected < 1 ? ", at least 1" : ""),
                                          ""});
  }
  const std::size_t bytes =
      lat_run::count_of(lat_run::Shape(tensor.dims, tensor.dims + tensor.rank)) * bytes_of(port.dtype);
  if (tensor.bytes != bytes)
    throw bad_input("wrong number of bytes" + in, {std::to_string(tensor.bytes), std::to_string(bytes), ""});
  if (tensor.data == nullptr) throw bad_input("no data" + in);
}

void check_range(const Port& port, const lat_tensor& tensor) {
  if (port.below == 0) return;
  std::int64_t least = std::numeric_limits<std::int64_t>::max(), most = std::numeric_limits<std::int64_t>::min();
  const char* place = static_cast<const char*>(tensor.data);
  for (std::size_t at = 0; at < tensor.bytes / sizeof least; ++at, place += sizeof least) {
    std::int64_t value;
    std::memcpy(&value, place, sizeof value);
    least = std::min(least, value);
    most = std::max(most, value);
  }
  if (least < 0 || most >= port.below)
    throw bad_input("a number that the model has no meaning for in input " + port.name,
                    {std::to_string(least) + " to " + std::to_string(most), "0 to " + std::to_string(port.below - 1),
                     port.name == "input_ids" ? "use the checkpoint's own tokenizer" : ""});
}

void check_length(const Manifest& manifest, std::int64_t tokens) {
  if (tokens > manifest.max_tokens)
    throw bad_input("the sequence is longer than the checkpoint's position table",
                    {"N=" + std::to_string(tokens), "N <= " + std::to_string(manifest.max_tokens),
                     "truncate or split the document"});
  const std::int64_t step = manifest.multiple_of;
  if (tokens % step != 0)
    throw bad_input(
        "the sequence length must be a multiple of the number of landmarks",
        {"N=" + std::to_string(tokens) + ", L=" + std::to_string(step), "N % " + std::to_string(step) + " == 0",
         "pad to " + std::to_string((tokens + step - 1) / step * step) + " with attention_mask 0"});
}

}  // namespace

std::string shape_of(const lat_tensor& tensor) {
  return lat_run::text_of(lat_run::Shape(tensor.dims, tensor.dims + tensor.rank));
}

std::vector<lat_tensor> checked(const Manifest& manifest, const lat_tensor* inputs, std::size_t count) {
  if (inputs == nullptr && count != 0) throw bad_input("no inputs", {"NULL", "", ""});
  for (std::size_t at = 0; at < count; ++at) {
    if (inputs[at].name == nullptr || (inputs[at].dims == nullptr && inputs[at].rank != 0))
      throw bad_input("an input without a name or dims", {"input " + std::to_string(at), "", ""});
    if (manifest.input(inputs[at].name) == nullptr)
      throw bad_input("the model has no input " + std::string(inputs[at].name));
  }
  std::vector<lat_tensor> found;
  std::map<std::string, std::int64_t> sizes;
  for (const Port& port : manifest.inputs) {
    found.push_back(named(port, inputs, count));
    check_shape(port, found.back(), sizes);
    check_range(port, found.back());
  }
  if (const auto tokens = sizes.find("sequence"); tokens != sizes.end()) check_length(manifest, tokens->second);
  return found;
}

}  // namespace lat_edge
