// lat_edge: a text, or tokens, through a model on a machine without Python. All of it over the C ABI of lat_runner.h.
#include <cstdio>
#include <cstring>
#include <iostream>
#include <string>
#include <vector>

#include "bench.h"
#include "check.h"
#include "client.h"
#include "error.h"
#include "json_text.h"

namespace lat_edge {
namespace {

constexpr char kUsage[] =
    "usage: lat_edge [--folder DIR] [--threads N] [--bodies] WHAT\n"
    "\n"
    "WHAT is one of\n"
    "  --text TEXT [--question TEXT] [--choice TEXT]... [--top-k K]   the answer of the task, as JSON\n"
    "  --request JSON   the same, as lat_runner.h describes requests; with \"ids\" in place of text\n"
    "  --lines          a request a line of the standard input, an answer or {\"error\": ...} a line of the output\n"
    "  --encode         the same of texts to tokens: {\"text\": ..., \"pair\": ...}\n"
    "  --check          compare with what PyTorch computed: golden.safetensors\n"
    "  --bench [--tokens N] [--runs N]   start-up, latency and memory of one row of N tokens, as JSON\n"
    "  --facts          what the model is and what it takes, as JSON\n"
    "\n"
    "  --folder   what lat-export bundle --format edge wrote  [default: where this program is]\n"
    "  --threads  of one run  [default: one a core]\n"
    "  --bodies   leave native ops alone\n"
    "\n"
    "Exit codes: 0 done; 1 a comparison failed, or onnxruntime did; 2 bad usage or input; 3 something is missing\n";

struct Arguments {
  std::string folder, what, request;
  lat_options options{};
  BenchSizes bench;
};

// What --text and its companions say, as a request.
struct Words {
  std::string text, question;
  std::vector<std::string> choices;
  long top_k = 0;
  bool has_text = false, has_question = false;

  std::string request() const {
    JsonText json;
    json.open('{').key("text").text(text);
    if (has_question) json.key("question").text(question);
    if (!choices.empty()) {
      json.key("choices").open('[');
      for (const std::string& choice : choices) json.text(choice);
      json.close(']');
    }
    if (top_k > 0) json.key("top_k").whole(top_k);
    return json.close('}').str();
  }
};

[[noreturn]] void misuse(const std::string& why) { throw lat_run::Error(why + "\n\n" + kUsage); }

long positive(const std::string& option, const std::string& word) {
  std::size_t end = 0;
  long value = 0;
  try {
    value = std::stol(word, &end);
  } catch (const std::exception&) {
    end = 0;
  }
  if (end != word.size() || word.empty() || value < 1 || value > 1'000'000)
    misuse(option + " takes a number from 1 on, got " + word);
  return value;
}

void choose(Arguments& arguments, const std::string& what) {
  if (!arguments.what.empty() && arguments.what != what) misuse("either " + arguments.what + " or " + what);
  arguments.what = what;
}

Arguments read_arguments(int count, char** words) {
  Arguments found;
  Words said;
  for (int at = 1; at < count; ++at) {
    const std::string word = words[at];
    if (word == "--lines" || word == "--encode" || word == "--check" || word == "--bench" || word == "--facts") {
      choose(found, word);
    } else if (word == "--bodies") {
      found.options.bodies = 1;
    } else if (at + 1 == count) {
      misuse("unknown argument, or one without a value: " + word);
    } else {
      const std::string value = words[++at];
      if (word == "--folder") {
        found.folder = value;
      } else if (word == "--threads") {
        found.options.threads = static_cast<int32_t>(positive(word, value));
      } else if (word == "--text") {
        said.text = value;
        said.has_text = true;
        choose(found, word);
      } else if (word == "--question") {
        said.question = value;
        said.has_question = true;
      } else if (word == "--choice") {
        said.choices.push_back(value);
      } else if (word == "--top-k") {
        said.top_k = positive(word, value);
      } else if (word == "--request") {
        found.request = value;
        choose(found, word);
      } else if (word == "--tokens") {
        found.bench.tokens = positive(word, value);
      } else if (word == "--runs") {
        found.bench.runs = static_cast<std::size_t>(positive(word, value));
      } else {
        misuse("unknown argument " + word);
      }
    }
  }
  if (found.what.empty()) misuse("nothing to do");
  if (said.has_text) found.request = said.request();
  if (!said.has_text && (said.has_question || !said.choices.empty() || said.top_k > 0))
    misuse("--question, --choice and --top-k go with --text");
  return found;
}

int print_answer(const Client& client, const std::string& request) {
  std::printf("%s\n", client.answer(request).c_str());
  return lat_run::kPassed;
}

// A bad request is told on its own line, and those behind it are answered.
int answer_lines(const Client& client, std::string (Client::*answer)(const std::string&) const) {
  int worst = lat_run::kPassed;
  for (std::string line; std::getline(std::cin, line);) {
    try {
      std::printf("%s\n", (client.*answer)(line).c_str());
    } catch (const Refused& refused) {
      std::printf("%s\n", refused.json().c_str());
      worst = refused.exit_code();
    }
    std::fflush(stdout);
  }
  return worst;
}

int run(const Arguments& arguments) {
  const std::string folder = arguments.folder.empty() ? folder_of_this_program() : arguments.folder;
  if (arguments.what == "--bench") return print_bench(folder, arguments.options, arguments.bench);
  const Client client(folder, arguments.options);
  if (arguments.what == "--check") return lat_run::check(folder, [&] { return client.subject(); });
  if (arguments.what == "--lines") return answer_lines(client, &Client::answer);
  if (arguments.what == "--encode") return answer_lines(client, &Client::encoding);
  if (arguments.what == "--facts") return print_facts(client);
  return print_answer(client, arguments.request);
}

}  // namespace
}  // namespace lat_edge

int main(int count, char** words) {
  if (count == 2 && std::strcmp(words[1], "--help") == 0) {
    std::printf("%s", lat_edge::kUsage);
    return 0;
  }
  try {
    return lat_edge::run(lat_edge::read_arguments(count, words));
  } catch (const lat_edge::Refused& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return error.exit_code();
  } catch (const lat_run::Error& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return error.code();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return lat_run::kBadInput;
  }
}
