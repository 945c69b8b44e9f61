#include "answers.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "array.h"
#include "failure.h"
#include "json_text.h"
#include "unicode.h"

namespace lat_edge {
namespace {

using Scores = std::vector<double>;

// As transformers' question-answering pipeline.
constexpr std::size_t kLongestAnswerTokens = 15;

// `count` numbers of an output from a flat index on.
Scores numbers(const lat_tensor& tensor, std::size_t first, std::size_t count) {
  lat_run::Array part;
  part.dtype = lat_run::dtype_named(name_of(tensor.dtype));
  const std::size_t size = bytes_of(tensor.dtype);
  if ((first + count) * size > tensor.bytes) throw Failure(LAT_FAILED, "an output is smaller than its input asks for");
  const char* place = static_cast<const char*>(tensor.data) + first * size;
  part.bytes.assign(place, place + count * size);
  Scores found(count);
  for (std::size_t at = 0; at < count; ++at) found[at] = part.number(at);
  return found;
}

// Row `at` along the second to last axis, of the first of a batch.
Scores row(const lat_tensor& tensor, std::size_t at) {
  const auto width = static_cast<std::size_t>(tensor.dims[tensor.rank - 1]);
  return numbers(tensor, at * width, width);
}

Scores softmax(Scores scores) {
  const double most = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (double& score : scores) sum += score = std::exp(score - most);
  for (double& score : scores) score /= sum;
  return scores;
}

std::size_t best_of(const Scores& scores) {
  return static_cast<std::size_t>(std::max_element(scores.begin(), scores.end()) - scores.begin());
}

// The best `count`, best first.
std::vector<std::size_t> ranked(const Scores& scores, std::size_t count) {
  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  count = std::min(count, order.size());
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(count), order.end(),
                    [&](std::size_t one, std::size_t other) { return scores[one] > scores[other]; });
  order.resize(count);
  return order;
}

// Characters of a text, or tokens.
class Places {
 public:
  explicit Places(const Read& read) {
    if (read.tokenizer != nullptr) points_ = points_of(*read.request.text);
    has_text_ = read.tokenizer != nullptr;
  }
  void write(JsonText& json, const char* name, std::size_t first, std::size_t end) const {
    if (has_text_) json.key(name).text(stripped(points_, first, end));
  }
  void write_ends(JsonText& json, std::size_t first, std::size_t end) const {
    json.key(has_text_ ? "start" : "first_token").whole(static_cast<long long>(first));
    json.key(has_text_ ? "end" : "end_token").whole(static_cast<long long>(end));
  }

 private:
  std::vector<std::uint32_t> points_;
  bool has_text_;
};

void features(const Read& read, JsonText& json) {
  const std::size_t tokens = read.encodings.front().size();
  for (const lat_tensor& tensor : read.outputs.tensors()) {
    json.key(tensor.name).open('[');
    if (tensor.rank == 3) {
      for (std::size_t at = 0; at < tokens; ++at) {
        json.open('[');
        for (const double value : row(tensor, at)) json.number(value);
        json.close(']');
      }
    } else {
      for (const double value : row(tensor, 0)) json.number(value);
    }
    json.close(']');
  }
}

void masked_tokens(const Read& read, JsonText& json) {
  const std::vector<std::int64_t>& ids = read.encodings.front().ids;
  const std::optional<std::int64_t>& mask = read.manifest.mask_token_id;
  if (!mask || std::find(ids.begin(), ids.end(), *mask) == ids.end())
    throw bad_input("nothing to fill: there is no mask", {"", "<mask> or [MASK] in the text, or its id", ""});
  const lat_tensor& logits = read.outputs.named("logits");
  json.key("masks").open('[');
  for (std::size_t place = 0; place < ids.size(); ++place) {
    if (ids[place] != *mask) continue;
    const Scores scores = softmax(row(logits, place));
    json.open('[');
    for (const std::size_t token : ranked(scores, read.request.top_k)) {
      std::vector<std::int64_t> filled = ids;
      filled[place] = static_cast<std::int64_t>(token);
      json.open('{');
      if (read.tokenizer != nullptr)
        json.key("token").text(read.tokenizer->decode({filled[place]}, false));
      else
        json.key("id").whole(filled[place]);
      json.key("score").number(scores[token]);
      if (read.tokenizer != nullptr) json.key("text").text(read.tokenizer->decode(filled, true));
      json.close('}');
    }
    json.close(']');
  }
  json.close(']');
}

// What a score is follows transformers' pipeline.
void labels(const Read& read, JsonText& json) {
  Scores scores = row(read.outputs.named("logits"), 0);
  const std::string& problem = read.manifest.problem_type;
  if (problem == "multi_label_classification" || (problem != "regression" && scores.size() == 1)) {
    for (double& score : scores) score = 1 / (1 + std::exp(-score));
  } else if (problem != "regression") {
    scores = softmax(std::move(scores));
  }
  json.key("labels").open('[');
  for (const std::size_t index : ranked(scores, read.request.top_k))
    json.open('{').key("label").text(read.manifest.label(index)).key("score").number(scores[index]).close('}');
  json.close(']');
}

void best_choice(const Read& read, JsonText& json) {
  const Scores scores = softmax(row(read.outputs.named("logits"), 0));
  const std::size_t best = best_of(scores);
  if (best < read.request.choices.size()) json.key("choice").text(read.request.choices[best]);
  json.key("index").whole(static_cast<long long>(best)).key("scores").open('[');
  for (const double score : scores) json.number(score);
  json.close(']');
}

// Neighbours of one tag, joined; O is left out. A tag is a label without B- or I-, a name what follows its first dash.
struct Entity {
  std::string name, tag;
  Scores scores;
  std::size_t first, end;
};

std::vector<Entity> entities_of(const Read& read) {
  const Encoding& encoding = read.encodings.front();
  const lat_tensor& logits = read.outputs.named("logits");
  std::vector<Entity> found;
  for (std::size_t place = 0; place < encoding.size(); ++place) {
    if (encoding.sequence[place] < 0) continue;
    const Scores scores = softmax(row(logits, place));
    const std::size_t index = best_of(scores);
    const std::string label = read.manifest.label(index);
    const std::string prefix = label.substr(0, 2);
    const std::string tag = prefix == "B-" || prefix == "I-" ? label.substr(2) : label;
    if (!found.empty() && found.back().tag == tag && prefix != "B-") {
      found.back().scores.push_back(scores[index]);
      found.back().end = encoding.offsets[place].second;
    } else {
      const std::size_t dash = label.find('-');
      const bool has_name = dash != std::string::npos && dash + 1 < label.size();
      const std::string name = has_name ? label.substr(dash + 1) : label;
      found.push_back({name, tag, {scores[index]}, encoding.offsets[place].first, encoding.offsets[place].second});
    }
  }
  return found;
}

void entities(const Read& read, JsonText& json) {
  const Places places(read);
  json.key("entities").open('[');
  for (const Entity& one : entities_of(read)) {
    if (one.name == "O" || one.first >= one.end) continue;
    const double sum = std::accumulate(one.scores.begin(), one.scores.end(), 0.0);
    json.open('{').key("label").text(one.name).key("score").number(sum / static_cast<double>(one.scores.size()));
    places.write(json, "text", one.first, one.end);
    places.write_ends(json, one.first, one.end);
    json.close('}');
  }
  json.close(']');
}

// Over the tokens of the document; 0 elsewhere.
Scores in_document(const Read& read, const char* output) {
  const Encoding& encoding = read.encodings.front();
  Scores scores = numbers(read.outputs.named(output), 0, encoding.size()), chosen, found(encoding.size(), 0.0);
  for (std::size_t at = 0; at < encoding.size(); ++at)
    if (encoding.sequence[at] == 1) chosen.push_back(scores[at]);
  if (chosen.empty()) return found;
  chosen = softmax(std::move(chosen));
  std::size_t next = 0;
  for (std::size_t at = 0; at < encoding.size(); ++at)
    if (encoding.sequence[at] == 1) found[at] = chosen[next++];
  return found;
}

void best_spans(const Read& read, JsonText& json) {
  const Encoding& encoding = read.encodings.front();
  const Scores start = in_document(read, "start_logits"), end = in_document(read, "end_logits");
  Scores scores;
  std::vector<std::pair<std::size_t, std::size_t>> spans;
  for (std::size_t first = 0; first < encoding.size(); ++first)
    for (std::size_t last = first; last < std::min(first + kLongestAnswerTokens, encoding.size()); ++last) {
      if (start[first] * end[last] <= 0) continue;
      scores.push_back(start[first] * end[last]);
      spans.emplace_back(first, last);
    }
  const Places places(read);
  json.key("answers").open('[');
  for (const std::size_t at : ranked(scores, read.request.top_k)) {
    const std::size_t first = encoding.offsets[spans[at].first].first,
                      behind = encoding.offsets[spans[at].second].second;
    json.open('{');
    places.write(json, "answer", first, behind);
    json.key("score").number(scores[at]);
    places.write_ends(json, first, behind);
    json.close('}');
  }
  json.close(']');
}

struct Task {
  const char* name;
  void (*write)(const Read&, JsonText&);
};

constexpr Task kTasks[] = {{"feature-extraction", features},   {"fill-mask", masked_tokens},
                           {"text-classification", labels},    {"multiple-choice", best_choice},
                           {"token-classification", entities}, {"question-answering", best_spans}};

}  // namespace

std::string answer_of(const Read& read) {
  for (const Task& task : kTasks) {
    if (read.manifest.task != task.name) continue;
    JsonText json;
    json.open('{');
    task.write(read, json);
    return json.close('}').str();
  }
  throw bad_input("no answer is known for this task", {read.manifest.task, "", "give it tensors: lat_runner_run"});
}

}  // namespace lat_edge
