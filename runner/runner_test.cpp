// The C ABI under threads, bad calls and sanitizers: runner_test FOLDER of a text-classification model that takes text.
// Exit code 0: all of it held. Prints what did not.
#include <cstdio>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "lat_runner.h"

namespace {

constexpr int kThreads = 4, kRounds = 20;
int failures = 0;

void expect(bool held, const char* what) {
  if (held) return;
  std::printf("FAILED: %s\n", what);
  ++failures;
}

#define EXPECT(condition) expect(condition, #condition)

struct Call {
  std::vector<std::vector<std::int64_t>> values;
  std::vector<std::vector<std::int64_t>> dims;
  std::vector<lat_tensor> tensors;
};

// Every input of whole numbers, one row of `tokens`.
Call call_of(const lat_runner* runner, std::int64_t tokens) {
  Call call;
  lat_facts facts;
  EXPECT(lat_runner_facts(runner, &facts, nullptr) == LAT_OK);
  call.values.reserve(facts.input_count);
  call.dims.reserve(facts.input_count);
  for (std::size_t at = 0; at < facts.input_count; ++at) {
    lat_port port;
    EXPECT(lat_runner_input(runner, at, &port, nullptr) == LAT_OK);
    call.dims.push_back({1, tokens});
    call.values.emplace_back(static_cast<std::size_t>(tokens), std::strcmp(port.name, "attention_mask") == 0);
    if (std::strcmp(port.name, "input_ids") == 0)
      for (std::int64_t token = 0; token < tokens; ++token)
        call.values.back()[static_cast<std::size_t>(token)] = 5 + token % 40;
    call.tensors.push_back({port.name, port.dtype, 2, call.dims.back().data(), call.values.back().data(),
                            static_cast<std::size_t>(tokens) * sizeof(std::int64_t)});
  }
  return call;
}

std::string bytes_of(const lat_runner* runner, std::int64_t tokens) {
  const Call call = call_of(runner, tokens);
  lat_result* result = nullptr;
  lat_error error;
  if (lat_runner_run(runner, call.tensors.data(), call.tensors.size(), &result, &error) != LAT_OK) return error.what;
  std::string bytes;
  for (std::size_t at = 0; at < lat_result_count(result); ++at) {
    const lat_tensor* tensor = lat_result_at(result, at);
    bytes.append(static_cast<const char*>(tensor->data), tensor->bytes);
  }
  EXPECT(lat_result_at(result, lat_result_count(result)) == nullptr);
  lat_result_free(result);
  return bytes;
}

std::string answered(const lat_runner* runner, const std::string& request) {
  char* answer = nullptr;
  lat_error error;
  const lat_status status = lat_runner_answer(runner, request.c_str(), &answer, &error);
  const std::string text = status == LAT_OK ? answer : "refused: " + std::string(error.what);
  EXPECT((status == LAT_OK) == (answer != nullptr));
  EXPECT(status == error.status);
  lat_string_free(answer);
  return text;
}

// Threads with lengths of their own get the bits that they get alone, while others are refused.
void test_threads(const lat_runner* runner, std::int64_t step) {
  std::vector<std::string> alone, texts;
  const auto request = [](int at) {
    return "{\"text\": \"Keeper " + std::string(static_cast<std::size_t>(at), 'a') + "\"}";
  };
  for (int at = 0; at < kThreads; ++at) {
    alone.push_back(bytes_of(runner, step * (at + 1)));
    texts.push_back(answered(runner, request(at)));
  }
  EXPECT(alone[0] != alone[1]);
  std::vector<int> held(kThreads, 0);
  std::vector<std::thread> threads;
  for (int at = 0; at < kThreads; ++at)
    threads.emplace_back([&, at] {
      const auto place = static_cast<std::size_t>(at);
      for (int round = 0; round < kRounds; ++round) {
        held[place] += bytes_of(runner, step * (at + 1)) == alone[place];
        held[place] += answered(runner, request(at)) == texts[place];
        held[place] += answered(runner, "{\"text\": 5}").rfind("refused", 0) == 0;
      }
    });
  for (std::thread& thread : threads) thread.join();
  for (const int count : held) EXPECT(count == 3 * kRounds);
}

void test_bad_calls(const lat_runner* runner, std::int64_t step) {
  lat_error error;
  lat_result* result = nullptr;
  Call call = call_of(runner, step);
  const auto run = [&](const lat_tensor* tensors, std::size_t count) {
    return lat_runner_run(runner, tensors, count, &result, &error);
  };
  EXPECT(run(call.tensors.data(), call.tensors.size() - 1) == LAT_BAD_INPUT && std::strstr(error.what, "missing"));
  EXPECT(run(nullptr, 2) == LAT_BAD_INPUT);
  EXPECT(run(nullptr, 0) == LAT_BAD_INPUT);
  EXPECT(lat_runner_run(runner, call.tensors.data(), call.tensors.size(), nullptr, &error) == LAT_BAD_INPUT);
  EXPECT(lat_runner_run(nullptr, call.tensors.data(), call.tensors.size(), &result, nullptr) == LAT_BAD_INPUT);
  const auto spoilt = [&](auto&& spoil, const char* what) {
    std::vector<lat_tensor> tensors = call.tensors;
    spoil(tensors[0]);
    EXPECT(run(tensors.data(), tensors.size()) == LAT_BAD_INPUT);
    expect(std::strstr(error.what, what) != nullptr, error.what);
    EXPECT(result == nullptr);
  };
  const std::int64_t longer[] = {1, step + 1}, none[] = {1, 0}, negative[] = {1, -1}, three[] = {1, 1, step};
  const std::int64_t huge[] = {std::int64_t{1} << 62, std::int64_t{1} << 62};
  const std::vector<std::int64_t> large(static_cast<std::size_t>(step), std::int64_t{1} << 40);
  spoilt([](lat_tensor& one) { one.name = "no_such_input"; }, "has no input");
  spoilt([](lat_tensor& one) { one.name = nullptr; }, "without a name");
  spoilt([](lat_tensor& one) { one.dims = nullptr; }, "without a name");
  spoilt([](lat_tensor& one) { one.dtype = LAT_FLOAT32; }, "wrong dtype");
  spoilt([](lat_tensor& one) { one.dtype = 99; }, "wrong dtype");
  spoilt([&](lat_tensor& one) { one.dims = three, one.rank = 3; }, "wrong rank");
  spoilt([&](lat_tensor& one) { one.dims = longer; }, "bytes");
  spoilt([&](lat_tensor& one) { one.dims = none; }, "wrong size");
  spoilt([&](lat_tensor& one) { one.dims = negative; }, "wrong size");
  spoilt([&](lat_tensor& one) { one.dims = huge; }, "too large");
  spoilt([](lat_tensor& one) { one.bytes -= 1; }, "bytes");
  spoilt([](lat_tensor& one) { one.data = nullptr; }, "no data");
  spoilt([&](lat_tensor& one) { one.data = large.data(); }, "no meaning");
  lat_port port;
  EXPECT(lat_runner_input(runner, 99, &port, &error) == LAT_BAD_INPUT);
  EXPECT(lat_runner_output(runner, 99, &port, nullptr) == LAT_BAD_INPUT);
  lat_runner_destroy(nullptr);
  lat_result_free(nullptr);
  lat_string_free(nullptr);
  EXPECT(lat_result_count(nullptr) == 0 && lat_result_at(nullptr, 0) == nullptr);
}

void test_bad_requests(const lat_runner* runner) {
  for (const char* request : {"",
                              "{",
                              "null",
                              "[]",
                              "5",
                              "{}",
                              "{\"text\": null}",
                              "{\"text\": \"a\", \"ids\": [1]}",
                              "{\"ids\": []}",
                              "{\"ids\": [[]]}",
                              "{\"ids\": [1.5]}",
                              "{\"ids\": [-1]}",
                              "{\"ids\": [99999999]}",
                              "{\"ids\": [[1], [2]]}",
                              "{\"ids\": [1], \"type_ids\": [1, 2]}",
                              "{\"ids\": [1], \"global_attention_mask\": [[1], [1]]}",
                              "{\"text\": \"a\", \"top_k\": 0}",
                              "{\"text\": \"a\", \"question\": \"b\"}",
                              "{\"text\": \"a\", \"choices\": [\"b\"]}",
                              "{\"text\": \"a\", \"colour\": 1}",
                              "{\"text\": \"\xff\"}",
                              "{\"text\": \"\\ud800\"}"})
    expect(answered(runner, request).rfind("refused: ", 0) == 0, request);
  EXPECT(answered(runner, "{\"text\": \"" + std::string(100000, 'a') + "\"}")
             .rfind("refused: the sequence is longer", 0) == 0);
  EXPECT(answered(runner, "{\"text\": \"\"}").rfind("{\"labels\"", 0) == 0);
  EXPECT(answered(runner, "{\"ids\": [0, 5, 2], \"top_k\": 1}").rfind("{\"labels\"", 0) == 0);
}

void test_creation(const char* folder) {
  lat_error error;
  lat_runner* runner = nullptr;
  EXPECT(lat_runner_create("no such folder", nullptr, &runner, &error) == LAT_BAD_INPUT && runner == nullptr);
  EXPECT(std::strlen(error.what) > 0 && std::strstr(error.got, "no such folder") != nullptr);
  EXPECT(lat_runner_create(nullptr, nullptr, &runner, &error) == LAT_BAD_INPUT);
  EXPECT(lat_runner_create(folder, nullptr, nullptr, nullptr) == LAT_BAD_INPUT);
  const lat_options negative{-1, 0};
  EXPECT(lat_runner_create(folder, &negative, &runner, &error) == LAT_BAD_INPUT);
  EXPECT(lat_runner_abi_version() == LAT_RUNNER_ABI_VERSION);
}

}  // namespace

int main(int count, char** words) {
  if (count != 2) return 2;
  test_creation(words[1]);
  // Twice: nothing of the first one may be left over; and two at once.
  for (const int32_t bodies : {0, 1}) {
    lat_error error;
    lat_runner *runner = nullptr, *other = nullptr;
    const lat_options options{2, bodies};
    if (lat_runner_create(words[1], &options, &runner, &error) != LAT_OK ||
        lat_runner_create(words[1], &options, &other, &error) != LAT_OK) {
      std::printf("FAILED: %s %s\n", error.what, error.got);
      return 1;
    }
    lat_facts facts;
    EXPECT(lat_runner_facts(runner, &facts, &error) == LAT_OK && (facts.native_ops == 0 || bodies == 0));
    test_threads(runner, facts.multiple_of * 8);
    lat_runner_destroy(other);
    test_bad_calls(runner, facts.multiple_of * 8);
    test_bad_requests(runner);
    lat_runner_destroy(runner);
  }
  if (failures == 0) std::printf("passed\n");
  return failures == 0 ? 0 : 1;
}
