#include "request.h"

#include <algorithm>

#include "error.h"
#include "failure.h"

namespace lat_edge {
namespace {

using lat_run::Json;

constexpr const char* kKeys[] = {"text", "question", "choices", "ids", "type_ids", "global_attention_mask", "top_k"};

// [1, 2] is a row, [[1, 2], [3]] are two.
Rows read_rows(const Json* found) {
  Rows rows;
  if (found == nullptr) return rows;
  const std::vector<Json>& items = found->items();
  if (!items.empty() && items.front().is_array())
    for (const Json& row : items) rows.push_back(row.wholes());
  else
    rows.push_back(found->wholes());
  return rows;
}

Request parsed(const Json& found) {
  Request request;
  for (const std::string& name : found.names())
    if (std::find(std::begin(kKeys), std::end(kKeys), name) == std::end(kKeys))
      throw bad_input("a request has no such key", {name,
                                                    "text, question, choices, ids, type_ids, "
                                                    "global_attention_mask or top_k",
                                                    ""});
  if (const Json* text = found.find("text")) request.text = text->text();
  if (const Json* question = found.find("question")) request.question = question->text();
  if (const Json* choices = found.find("choices"))
    for (const Json& choice : choices->items()) request.choices.push_back(choice.text());
  request.ids = read_rows(found.find("ids"));
  request.type_ids = read_rows(found.find("type_ids"));
  request.globals = read_rows(found.find("global_attention_mask"));
  if (const Json* top_k = found.find("top_k")) {
    if (top_k->whole() < 1) throw bad_input("top_k is too small", {std::to_string(top_k->whole()), "at least 1", ""});
    request.top_k = static_cast<std::size_t>(top_k->whole());
  }
  return request;
}

void check_ids(const Request& request, const Manifest& manifest) {
  if (request.text || request.question || !request.choices.empty())
    throw bad_input("a request has either text or ids", {"both", "one of them", ""});
  if (request.ids.size() != 1 && !manifest.has_choices())
    throw bad_input(manifest.task + " takes one row of ids", {std::to_string(request.ids.size()) + " rows", "1", ""});
  for (const std::vector<std::int64_t>& row : request.ids)
    if (row.empty()) throw bad_input("a row of ids is empty", {"no tokens", "at least one", ""});
  for (const Rows* rows : {&request.type_ids, &request.globals}) {
    if (rows->empty()) continue;
    const bool same = std::equal(rows->begin(), rows->end(), request.ids.begin(), request.ids.end(),
                                 [](const auto& one, const auto& other) { return one.size() == other.size(); });
    if (!same)
      throw bad_input(rows == &request.globals ? "global_attention_mask is of another form than ids"
                                               : "type_ids is of another form than ids",
                      {"", "one number for each of ids", ""});
  }
}

void check_takes_text(const Manifest& manifest) {
  if (!manifest.why_no_text.empty())
    throw bad_input("this runner takes ids, not text: " + manifest.why_no_text, {"\"text\"", "\"ids\"", ""});
}

void check_text(const Request& request, const Manifest& manifest) {
  check_takes_text(manifest);
  if (!request.text) throw bad_input("a request needs text or ids", {"neither", "{\"text\": \"...\"}", ""});
  if (!request.type_ids.empty() || !request.globals.empty())
    throw bad_input("type_ids and global_attention_mask go with ids", {"with text", "with ids", ""});
  const bool questions = manifest.task == "question-answering";
  if (questions != request.question.has_value())
    throw bad_input(manifest.task + (questions ? " needs a question" : " takes no question"),
                    {"", "", questions ? "\"text\" is the document, \"question\" what is asked of it" : ""});
  if (manifest.has_choices() == request.choices.empty())
    throw bad_input(manifest.task + (manifest.has_choices() ? " needs choices" : " takes no choices"));
}

Failure no_request(const lat_run::Error& error, const char* expected) {
  return bad_input("the request is no JSON of a request's form", {error.what(), expected, ""});
}

}  // namespace

Texts read_texts(const std::string& json, const Manifest& manifest) {
  check_takes_text(manifest);
  try {
    const Json found = Json::parse(json);
    Texts texts{found.at("text").text(), std::nullopt};
    if (const Json* pair = found.find("pair")) texts.pair = pair->text();
    return texts;
  } catch (const lat_run::Error& error) {
    throw no_request(error, "{\"text\": \"...\", \"pair\": \"...\"}");
  }
}

Request read_request(const std::string& json, const Manifest& manifest) {
  Request request;
  try {
    request = parsed(Json::parse(json));
  } catch (const lat_run::Error& error) {
    throw no_request(error, "{\"text\": \"...\"} or {\"ids\": [...]}");
  }
  if (request.ids.empty())
    check_text(request, manifest);
  else
    check_ids(request, manifest);
  return request;
}

}  // namespace lat_edge
