// The C ABI: every function catches what is thrown inside, and hands out a status and a text.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#include "answers.h"
#include "check_inputs.h"
#include "error.h"
#include "failure.h"
#include "json_text.h"
#include "lat_runner.h"
#include "manifest.h"
#include "model_inputs.h"
#include "request.h"
#include "session.h"
#include "tokenizer.h"

struct lat_runner {
  lat_runner(const std::string& folder, const lat_options& options);

  lat_edge::Manifest manifest;
  bool native_ops;
  std::vector<std::vector<const char*>> dim_names;  // of inputs, then outputs
  std::vector<const char*> labels;
  std::unique_ptr<lat_edge::Tokenizer> tokenizer;
  std::unique_ptr<lat_edge::Session> session;
};

struct lat_result {
  std::unique_ptr<lat_edge::Result> outputs;
};

lat_runner::lat_runner(const std::string& folder, const lat_options& options)
    : manifest(lat_edge::read_manifest(folder)), native_ops(options.bodies == 0 && !manifest.native_ops.empty()) {
  if (options.threads < 0) throw lat_edge::bad_input("threads below 0", {std::to_string(options.threads), "", ""});
  for (const auto* ports : {&manifest.inputs, &manifest.outputs})
    for (const lat_edge::Port& port : *ports) {
      dim_names.emplace_back();
      for (const std::string& name : port.dim_names) dim_names.back().push_back(name.empty() ? nullptr : name.c_str());
    }
  for (const std::string& label : manifest.labels) labels.push_back(label.c_str());
  if (!manifest.tokenizer.is_null()) tokenizer = std::make_unique<lat_edge::Tokenizer>(manifest.tokenizer, folder);
  session = std::make_unique<lat_edge::Session>(manifest, options.threads, native_ops);
}

namespace lat_edge {
namespace {

void copy(char (&to)[LAT_TEXT], const std::string& from) { std::snprintf(to, sizeof to, "%s", from.c_str()); }

lat_status tell(lat_error* error, lat_status status, const std::string& what, const Facts& facts = {}) {
  if (error == nullptr) return status;
  error->status = status;
  copy(error->what, what);
  copy(error->got, facts.got);
  copy(error->expected, facts.expected);
  copy(error->hint, facts.hint);
  return status;
}

template <class Work>
lat_status guarded(lat_error* error, Work&& work) noexcept {
  try {
    try {
      work();
      return tell(error, LAT_OK, "");
    } catch (const Failure& failure) {
      return tell(error, failure.status, failure.what(), failure.facts);
    } catch (const lat_run::Error& failure) {
      return tell(error, LAT_BAD_INPUT, failure.what());
    } catch (const std::bad_alloc&) {
      return tell(error, LAT_FAILED, "out of memory");
    } catch (const std::exception& failure) {
      return tell(error, LAT_BUG, "a bug of lat_runner", {failure.what(), "", ""});
    }
  } catch (...) {
    // Not even a text could be made.
    if (error != nullptr) *error = {};
    if (error != nullptr) error->status = LAT_FAILED;
    return LAT_FAILED;
  }
}

template <class... Pointers>
void demand(const char* names, const Pointers*... given) {
  if (((given == nullptr) || ...)) throw bad_input("a pointer that may not be NULL", {"NULL", names, ""});
}

char* owned(const std::string& text) {
  char* copied = static_cast<char*>(std::malloc(text.size() + 1));
  if (copied == nullptr) throw std::bad_alloc();
  std::memcpy(copied, text.c_str(), text.size() + 1);
  return copied;
}

lat_port port_of(const lat_runner& runner, const std::vector<Port>& ports, std::size_t index, std::size_t names_at) {
  if (index >= ports.size())
    throw bad_input("no such index", {std::to_string(index), "below " + std::to_string(ports.size()), ""});
  const Port& port = ports[index];
  return {port.name.c_str(), port.dtype, port.dims.size(), port.dims.data(), runner.dim_names[names_at + index].data(),
          port.below};
}

// Ids that a caller brings. What the tokenizer added is known by the task's separator, and at the ends.
Encoding given_encoding(const Manifest& manifest, const std::vector<std::int64_t>& ids,
                        const std::vector<std::int64_t>* types) {
  Encoding encoding;
  bool behind_separator = false;
  for (std::size_t at = 0; at < ids.size(); ++at) {
    const bool separates = manifest.separator && ids[at] == *manifest.separator;
    const bool added = separates || at == 0;
    encoding.ids.push_back(ids[at]);
    encoding.type_ids.push_back(types == nullptr ? 0 : (*types)[at]);
    encoding.offsets.emplace_back(at, at + 1);
    encoding.sequence.push_back(added ? -1 : behind_separator ? 1 : 0);
    behind_separator = behind_separator || separates;
  }
  return encoding;
}

std::vector<Encoding> encodings_of(const lat_runner& runner, const Request& request) {
  std::vector<Encoding> found;
  if (!request.text) {
    for (std::size_t row = 0; row < request.ids.size(); ++row)
      found.push_back(given_encoding(runner.manifest, request.ids[row],
                                     request.type_ids.empty() ? nullptr : &request.type_ids[row]));
  } else if (request.question) {
    found.push_back(runner.tokenizer->encode(*request.question, &*request.text));
  } else if (!request.choices.empty()) {
    for (const std::string& choice : request.choices) found.push_back(runner.tokenizer->encode(*request.text, &choice));
  } else {
    found.push_back(runner.tokenizer->encode(*request.text, nullptr));
  }
  return found;
}

std::string answer(const lat_runner& runner, const std::string& json) {
  const Request request = read_request(json, runner.manifest);
  const std::vector<Encoding> encodings = encodings_of(runner, request);
  const ModelInputs inputs(runner.manifest, encodings, request.globals);
  const std::unique_ptr<Result> outputs =
      runner.session->run(checked(runner.manifest, inputs.tensors().data(), inputs.tensors().size()));
  return answer_of({runner.manifest, request, request.text ? runner.tokenizer.get() : nullptr, encodings, *outputs});
}

std::string written(const Encoding& encoding) {
  JsonText json;
  json.open('{').key("ids").open('[');
  for (const std::int64_t id : encoding.ids) json.whole(id);
  json.close(']').key("type_ids").open('[');
  for (const std::int64_t type : encoding.type_ids) json.whole(type);
  json.close(']').key("offsets").open('[');
  for (const auto& [first, end] : encoding.offsets)
    json.open('[').whole(static_cast<long long>(first)).whole(static_cast<long long>(end)).close(']');
  json.close(']').key("special").open('[');
  for (const int sequence : encoding.sequence) json.whole(sequence < 0);
  return json.close(']').close('}').str();
}

}  // namespace
}  // namespace lat_edge

using namespace lat_edge;

int32_t lat_runner_abi_version(void) { return LAT_RUNNER_ABI_VERSION; }

lat_status lat_runner_create(const char* folder, const lat_options* options, lat_runner** out, lat_error* error) {
  return guarded(error, [&] {
    demand("folder, out", folder, out);
    *out = nullptr;
    *out = new lat_runner(folder, options == nullptr ? lat_options{} : *options);
  });
}

void lat_runner_destroy(lat_runner* runner) { delete runner; }

lat_status lat_runner_facts(const lat_runner* runner, lat_facts* out, lat_error* error) {
  return guarded(error, [&] {
    demand("runner, out", runner, out);
    const Manifest& known = runner->manifest;
    *out = {};
    out->family = known.family.c_str();
    out->task = known.task.c_str();
    out->precision = known.precision.c_str();
    out->onnxruntime = runner->session->version();
    out->input_count = known.inputs.size();
    out->output_count = known.outputs.size();
    out->max_tokens = known.max_tokens;
    out->multiple_of = known.multiple_of;
    out->pad_token_id = known.pad_token_id;
    out->first_position = known.first_position;
    out->label_count = runner->labels.size();
    out->labels = runner->labels.data();
    out->native_ops = runner->native_ops;
    out->takes_text = runner->tokenizer != nullptr;
    out->why_no_text = known.why_no_text.c_str();
  });
}

lat_status lat_runner_input(const lat_runner* runner, size_t index, lat_port* out, lat_error* error) {
  return guarded(error, [&] {
    demand("runner, out", runner, out);
    *out = port_of(*runner, runner->manifest.inputs, index, 0);
  });
}

lat_status lat_runner_output(const lat_runner* runner, size_t index, lat_port* out, lat_error* error) {
  return guarded(error, [&] {
    demand("runner, out", runner, out);
    *out = port_of(*runner, runner->manifest.outputs, index, runner->manifest.inputs.size());
  });
}

lat_status lat_runner_run(const lat_runner* runner, const lat_tensor* inputs, size_t count, lat_result** out,
                          lat_error* error) {
  return guarded(error, [&] {
    demand("runner, out", runner, out);
    *out = nullptr;
    auto result = std::make_unique<lat_result>();
    result->outputs = runner->session->run(checked(runner->manifest, inputs, count));
    *out = result.release();
  });
}

size_t lat_result_count(const lat_result* result) { return result == nullptr ? 0 : result->outputs->tensors().size(); }

const lat_tensor* lat_result_at(const lat_result* result, size_t index) {
  return index < lat_result_count(result) ? &result->outputs->tensors()[index] : nullptr;
}

void lat_result_free(lat_result* result) { delete result; }

lat_status lat_runner_answer(const lat_runner* runner, const char* request, char** out, lat_error* error) {
  return guarded(error, [&] {
    demand("runner, request, answer", runner, request, out);
    *out = nullptr;
    *out = owned(answer(*runner, request));
  });
}

lat_status lat_runner_encode(const lat_runner* runner, const char* request, char** out, lat_error* error) {
  return guarded(error, [&] {
    demand("runner, request, encoding", runner, request, out);
    *out = nullptr;
    const Texts texts = read_texts(request, runner->manifest);
    *out = owned(written(runner->tokenizer->encode(texts.text, texts.pair ? &*texts.pair : nullptr)));
  });
}

void lat_string_free(char* text) { std::free(text); }
