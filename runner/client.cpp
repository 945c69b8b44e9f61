#include "client.h"

#include <unistd.h>

#include <cstdio>

#include "array.h"
#include "cases.h"
#include "dtype.h"
#include "json_text.h"

namespace lat_edge {
namespace {

struct FreeResult {
  void operator()(lat_result* result) const { lat_result_free(result); }
};

struct FreeText {
  void operator()(char* text) const { lat_string_free(text); }
};

// As exporter/lat_export/errors.py lays it out.
std::string words_of(const lat_error& error) {
  std::string text = error.what;
  if (error.got[0] != '\0') text += std::string("\n  got: ") + error.got;
  if (error.expected[0] != '\0') text += std::string("\n  expected: ") + error.expected;
  if (error.hint[0] != '\0') text += std::string("\n\nhint: ") + error.hint;
  return text;
}

class OfRunner final : public lat_run::Subject {
 public:
  explicit OfRunner(const Client& client) : client_(client) {}

  std::string title() const override {
    const lat_facts facts = client_.facts();
    return std::string(facts.family) + ", " + facts.task + ", in onnxruntime " + facts.onnxruntime + " (CPU, " +
           (facts.native_ops != 0 ? "native ops)" : "function bodies)");
  }

  lat_run::Arrays run(const lat_run::Case&, const lat_run::Arrays& inputs) override {
    std::vector<lat_tensor> tensors;
    for (const lat_port& port : client_.inputs()) {
      const auto array = inputs.find(port.name);
      if (array == inputs.end()) throw lat_run::RunError(std::string("no golden input ") + port.name);
      tensors.push_back({port.name, port.dtype, array->second.shape.size(), array->second.shape.data(),
                         array->second.bytes.data(), array->second.bytes.size()});
    }
    lat_error error;
    lat_result* owned = nullptr;
    if (lat_runner_run(client_.get(), tensors.data(), tensors.size(), &owned, &error) != LAT_OK)
      throw lat_run::RunError(words_of(error));
    const std::unique_ptr<lat_result, FreeResult> result(owned);
    lat_run::Arrays found;
    for (std::size_t at = 0; at < lat_result_count(owned); ++at) {
      const lat_tensor& tensor = *lat_result_at(owned, at);
      const char* data = static_cast<const char*>(tensor.data);
      found.emplace(tensor.name, lat_run::Array{lat_run::dtype_named(name_of(tensor.dtype)),
                                                lat_run::Shape(tensor.dims, tensor.dims + tensor.rank),
                                                std::vector<char>(data, data + tensor.bytes)});
    }
    return found;
  }

 private:
  const Client& client_;
};

void write_ports(JsonText& json, const char* name, const std::vector<lat_port>& ports) {
  json.key(name).open('[');
  for (const lat_port& port : ports) {
    json.open('{').key("name").text(port.name).key("dtype").text(name_of(port.dtype)).key("dims").open('[');
    for (std::size_t at = 0; at < port.rank; ++at) {
      if (port.dims[at] < 0)
        json.text(port.dim_names[at]);
      else
        json.whole(port.dims[at]);
    }
    json.close(']');
    if (port.below > 0) json.key("below").whole(port.below);
    json.close('}');
  }
  json.close(']');
}

}  // namespace

Refused::Refused(const lat_error& error) : Error(words_of(error)), error_(error) {}

std::string Refused::json() const {
  JsonText json;
  json.open('{').key("error").open('{').key("what").text(error_.what).key("got").text(error_.got);
  return json.key("expected").text(error_.expected).key("hint").text(error_.hint).close('}').close('}').str();
}

void demand(lat_status status, const lat_error& error) {
  if (status != LAT_OK) throw Refused(error);
}

Client::Client(const std::string& folder, const lat_options& options) {
  if (lat_runner_abi_version() != LAT_RUNNER_ABI_VERSION)
    throw lat_run::Error("liblat_runner.so is of another version than this program", lat_run::kMissing);
  lat_error error;
  lat_runner* runner = nullptr;
  demand(lat_runner_create(folder.c_str(), &options, &runner, &error), error);
  runner_.reset(runner);
}

lat_facts Client::facts() const {
  lat_error error;
  lat_facts found;
  demand(lat_runner_facts(runner_.get(), &found, &error), error);
  return found;
}

std::vector<lat_port> Client::inputs() const {
  lat_error error;
  std::vector<lat_port> found(facts().input_count);
  for (std::size_t at = 0; at < found.size(); ++at)
    demand(lat_runner_input(runner_.get(), at, &found[at], &error), error);
  return found;
}

std::vector<lat_port> Client::outputs() const {
  lat_error error;
  std::vector<lat_port> found(facts().output_count);
  for (std::size_t at = 0; at < found.size(); ++at)
    demand(lat_runner_output(runner_.get(), at, &found[at], &error), error);
  return found;
}

std::string Client::answer(const std::string& request) const { return told(lat_runner_answer, request); }

std::string Client::encoding(const std::string& request) const { return told(lat_runner_encode, request); }

std::string Client::told(Call call, const std::string& request) const {
  // The C ABI would see the request end there.
  if (request.find('\0') != std::string::npos) throw lat_run::Error("a zero byte in a request");
  lat_error error;
  char* owned = nullptr;
  demand(call(runner_.get(), request.c_str(), &owned, &error), error);
  const std::unique_ptr<char, FreeText> text(owned);
  return text.get();
}

std::unique_ptr<lat_run::Subject> Client::subject() const { return std::make_unique<OfRunner>(*this); }

std::string folder_of_this_program() {
  std::string path(4096, '\0');
  const ssize_t length = readlink("/proc/self/exe", path.data(), path.size());
  if (length <= 0) throw lat_run::Error("where this program is cannot be told: name the folder with --folder");
  path.resize(static_cast<std::size_t>(length));
  return path.substr(0, path.rfind('/'));
}

int print_facts(const Client& client) {
  const lat_facts facts = client.facts();
  JsonText json;
  json.open('{').key("family").text(facts.family).key("task").text(facts.task).key("precision").text(facts.precision);
  json.key("onnxruntime").text(facts.onnxruntime).key("native_ops").whole(facts.native_ops);
  json.key("takes_text").whole(facts.takes_text).key("why_no_text").text(facts.why_no_text);
  json.key("max_tokens").whole(facts.max_tokens).key("multiple_of").whole(facts.multiple_of);
  json.key("labels").open('[');
  for (std::size_t at = 0; at < facts.label_count; ++at) json.text(facts.labels[at]);
  json.close(']');
  write_ports(json, "inputs", client.inputs());
  write_ports(json, "outputs", client.outputs());
  std::printf("%s\n", json.close('}').str().c_str());
  return lat_run::kPassed;
}

}  // namespace lat_edge
