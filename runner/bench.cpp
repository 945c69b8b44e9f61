#include "bench.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <vector>

#include "client.h"
#include "json_text.h"

namespace lat_edge {
namespace {

constexpr std::size_t kRunsForP99 = 100;
constexpr std::int64_t kOrdinaryToken = 5, kOrdinaryTokens = 50;

using Clock = std::chrono::steady_clock;

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

// Not getrusage's, which begins with what the program that started this one had in memory.
long long peak_resident_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.rfind("VmHWM:", 0) == 0) return std::stoll(line.substr(6)) * 1024;
  throw lat_run::Error("/proc/self/status does not tell VmHWM");
}

// One row, no padding, the first token global where the family has global tokens.
class Row {
 public:
  Row(const Client& client, std::int64_t tokens) {
    const lat_facts facts = client.facts();
    const std::vector<lat_port> ports = client.inputs();
    values_.reserve(ports.size());
    dims_.reserve(ports.size());
    for (const lat_port& port : ports) {
      std::vector<std::int64_t> dims;
      std::size_t count = 1;
      for (std::size_t at = 0; at < port.rank; ++at) {
        const bool is_last = at + 1 == port.rank;
        dims.push_back(port.dims[at] >= 0 ? port.dims[at] : is_last ? tokens : 1);
        count *= static_cast<std::size_t>(dims.back());
      }
      if (port.dtype != LAT_INT64) throw lat_run::Error(std::string("only tokens are measured, not ") + port.name);
      std::vector<std::int64_t> values(count);
      for (std::size_t at = 0; at < count; ++at)
        values[at] = value(port, facts, static_cast<std::int64_t>(at) % dims.back());
      values_.push_back(std::move(values));
      dims_.push_back(std::move(dims));
      tensors_.push_back(
          {port.name, port.dtype, port.rank, dims_.back().data(), values_.back().data(), count * sizeof(std::int64_t)});
    }
  }

  void run(const Client& client) const {
    lat_error error;
    lat_result* result = nullptr;
    demand(lat_runner_run(client.get(), tensors_.data(), tensors_.size(), &result, &error), error);
    lat_result_free(result);
  }

 private:
  static std::int64_t value(const lat_port& port, const lat_facts& facts, std::int64_t at) {
    const std::string name = port.name;
    if (name == "attention_mask") return 1;
    if (name == "global_attention_mask") return at == 0;
    if (name == "position_ids") return at + facts.first_position;
    if (name == "token_type_ids") return 0;
    return std::min(kOrdinaryToken + at % kOrdinaryTokens, port.below - 1);
  }

  std::vector<std::vector<std::int64_t>> values_, dims_;
  std::vector<lat_tensor> tensors_;
};

}  // namespace

int print_bench(const std::string& folder, const lat_options& options, const BenchSizes& sizes) {
  const Clock::time_point start = Clock::now();
  const Client client(folder, options);
  const double create_ms = ms_since(start);
  const long long resident_after_create = peak_resident_bytes();
  const Row row(client, sizes.tokens);
  const Clock::time_point first = Clock::now();
  row.run(client);
  const double first_ms = ms_since(first);
  std::vector<double> each;
  for (std::size_t at = 0; at < sizes.runs; ++at) {
    const Clock::time_point begin = Clock::now();
    row.run(client);
    each.push_back(ms_since(begin));
  }
  std::vector<double> sorted = each;
  std::sort(sorted.begin(), sorted.end());
  // The smallest that so many hundredths of all do not exceed.
  const auto percentile = [&](std::size_t hundredths) { return sorted[(sorted.size() * hundredths + 99) / 100 - 1]; };
  JsonText json;
  json.open('{').key("tokens").whole(sizes.tokens).key("runs").whole(static_cast<long long>(sizes.runs));
  json.key("threads").whole(options.threads).key("native_ops").whole(client.facts().native_ops);
  json.key("create_ms").number(create_ms).key("first_run_ms").number(first_ms).key("p50_ms").number(percentile(50));
  if (sizes.runs >= kRunsForP99) json.key("p99_ms").number(percentile(99));
  json.key("resident_after_create_bytes").whole(resident_after_create);
  json.key("peak_resident_bytes").whole(peak_resident_bytes()).key("each_ms").open('[');
  for (const double one : each) json.number(one);
  std::printf("%s\n", json.close(']').close('}').str().c_str());
  return lat_run::kPassed;
}

}  // namespace lat_edge
