#include "compare.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "error.h"

namespace lat_run {
namespace {

bool is_finite(const Array& array) {
  for (std::size_t at = 0; at < array.count(); ++at)
    if (!std::isfinite(array.number(at))) return false;
  return true;
}

bool is_zero(const Array& array) {
  for (std::size_t at = 0; at < array.count(); ++at)
    if (array.number(at) != 0) return false;
  return true;
}

// The output without the columns that the batch does not have, where those are zero; as it is where they are not, so
// that its shape is found to be wrong.
Array without_empty_columns(const Array& output, const Bar& bar) {
  if (!bar.first_empty_column || output.shape.empty() || output.shape.size() != bar.shape.size()) return output;
  const std::int64_t surplus = output.shape.back() - bar.shape.back(), first = *bar.first_empty_column;
  if (surplus <= 0 || first < 0 || first > bar.shape.back()) return output;
  std::vector<std::int64_t> empty, rest;
  for (std::int64_t column = 0; column < output.shape.back(); ++column)
    (column >= first && column < first + surplus ? empty : rest).push_back(column);
  const std::size_t last = output.shape.size() - 1;
  return is_zero(taken(output, last, empty)) ? taken(output, last, rest) : output;
}

std::string names_of(const std::vector<DType>& dtypes) {
  std::string text;
  for (const DType dtype : dtypes) text += (text.empty() ? "" : " or ") + std::string(name_of(dtype));
  return text;
}

Verdict measured(const Array& output, const Array& reference, const Bar& bar) {
  double error = 0, norm = 0, max_abs = 0;
  for (std::size_t at = 0; at < reference.count(); ++at) {
    const double expected = reference.number(at), difference = output.number(at) - expected;
    error += difference * difference;
    norm += expected * expected;
    max_abs = std::max(max_abs, std::abs(difference));
  }
  double size = std::max(std::sqrt(norm), bar.least_norm);
  if (size == 0) size = 1;
  const double relative_l2 = std::sqrt(error) / size;
  return {relative_l2 <= bar.relative_l2, relative_l2, max_abs, bar.remark};
}

}  // namespace

Verdict not_compared(const std::string& why) {
  constexpr double endless = std::numeric_limits<double>::infinity();
  return {false, endless, endless, why};
}

Verdict judged(const Array& given, const Array& reference, const std::vector<std::int64_t>& rows, const Bar& bar) {
  if (std::find(bar.dtypes.begin(), bar.dtypes.end(), given.dtype) == bar.dtypes.end())
    return not_compared(std::string("dtype ") + name_of(given.dtype) + " instead of " + names_of(bar.dtypes));
  const Array output = without_empty_columns(given, bar);
  if (output.shape != bar.shape)
    return not_compared("shape " + text_of(output.shape) + " instead of " + text_of(bar.shape));
  if (!is_finite(output)) return not_compared("NaN or Inf");
  const Array kept = bar.rows_axis ? taken(output, *bar.rows_axis, rows) : output;
  // A golden that does not fit to its own description is a broken file, not a wrong engine.
  if (kept.shape != reference.shape)
    throw Error("the golden has shape " + text_of(reference.shape) + ", expected " + text_of(kept.shape));
  if (!is_finite(reference)) throw Error("the golden has NaN or Inf");
  return measured(kept, reference, bar);
}

}  // namespace lat_run
