#include "check.h"

#include <algorithm>
#include <cstdio>

#include "cases.h"
#include "compare.h"
#include "tensor_file.h"

namespace lat_run {
namespace {

struct Row {
  std::string case_name, output;
  double tolerance = 0;
  Verdict verdict;
};

std::vector<Row> rows_of_case(const Case& one, const Kit& kit, TensorFile& golden, Subject& subject) {
  Arrays inputs, outputs;
  for (const std::string& name : kit.inputs) inputs.emplace(name, golden.read(one.prefix + ".inputs." + name));
  std::string failure;
  try {
    outputs = subject.run(one, inputs);
  } catch (const RunError& error) {
    failure = error.what();
  }
  std::vector<std::int64_t> rows;
  if (golden.has(one.prefix + ".rows")) {
    const Array kept = golden.read(one.prefix + ".rows");
    for (std::size_t at = 0; at < kept.count(); ++at) rows.push_back(static_cast<std::int64_t>(kept.number(at)));
  }
  std::vector<Row> found;
  for (const auto& [name, bar] : one.outputs) {
    const Array reference = golden.read(one.prefix + ".outputs." + name);
    const auto output = outputs.find(name);
    Verdict verdict;
    if (!failure.empty())
      verdict = not_compared(failure);
    else if (output == outputs.end())
      verdict = not_compared("no such output");
    else
      verdict = judged(output->second, reference, rows, bar);
    found.push_back({one.name, name, bar.relative_l2, verdict});
  }
  return found;
}

void print_table(const std::vector<Row>& rows) {
  std::size_t case_width = 4, output_width = 6;
  for (const Row& row : rows) {
    case_width = std::max(case_width, row.case_name.size());
    output_width = std::max(output_width, row.output.size());
  }
  const int first = static_cast<int>(output_width), second = static_cast<int>(case_width);
  std::printf("%-*s  %-*s  relative L2  at most  max abs  verdict\n", first, "output", second, "case");
  for (const Row& row : rows) {
    const std::string remark = row.verdict.remark.empty() ? "" : "  " + row.verdict.remark;
    std::printf("%-*s  %-*s  %11.1e  %7.0e  %7.1e  %s%s\n", first, row.output.c_str(), second, row.case_name.c_str(),
                row.verdict.relative_l2, row.tolerance, row.verdict.max_abs, row.verdict.passed ? "passed" : "FAILED",
                remark.c_str());
  }
}

// The last line; how near the worst came to its own tolerance decides which one that is.
void print_verdict(const std::vector<Row>& rows, const Kit& kit) {
  const auto failed = std::count_if(rows.begin(), rows.end(), [](const Row& row) { return !row.verdict.passed; });
  const auto worst = std::max_element(rows.begin(), rows.end(), [](const Row& a, const Row& b) {
    return a.verdict.relative_l2 / a.tolerance < b.verdict.relative_l2 / b.tolerance;
  });
  std::printf("\n%s: %zu comparisons in %zu cases", failed == 0 ? "passed" : "FAILED", rows.size(), kit.cases.size());
  if (failed != 0) std::printf(", %zu failed", static_cast<std::size_t>(failed));
  std::printf("; worst relative L2 %.1e (at most %.0e)", worst->verdict.relative_l2, worst->tolerance);
  if (kit.left_out != 0)
    std::printf("; %lld cases outside of the profile left out", static_cast<long long>(kit.left_out));
  std::printf("\n");
}

}  // namespace

ExitCode check(const std::string& folder, const std::function<std::unique_ptr<Subject>()>& open) {
  const Kit kit = read_kit(folder + "/kit.json");
  if (kit.cases.empty()) throw Error(folder + "/kit.json has no cases: nothing can be compared");
  TensorFile golden(folder + "/golden.safetensors");
  const std::unique_ptr<Subject> subject = open();
  std::printf("%s\n\n", subject->title().c_str());
  std::vector<Row> rows;
  for (const Case& one : kit.cases)
    for (Row& row : rows_of_case(one, kit, golden, *subject)) rows.push_back(std::move(row));
  if (rows.empty()) throw Error("the cases of " + folder + "/kit.json have no outputs");
  print_table(rows);
  print_verdict(rows, kit);
  return std::all_of(rows.begin(), rows.end(), [](const Row& row) { return row.verdict.passed; }) ? kPassed : kFailed;
}

}  // namespace lat_run
