#include "cases.h"

#include <cmath>
#include <fstream>
#include <sstream>

#include "error.h"
#include "json.h"

namespace lat_run {
namespace {

// `SCHEMA` of exporter/lat_export/stages/kit.py.
constexpr std::int64_t kSchema = 1;

double positive(const Json& value, bool or_zero) {
  const double number = value.number();
  if (!std::isfinite(number) || number < 0 || (number == 0 && !or_zero)) throw Error("a number that is no bar");
  return number;
}

Bar read_bar(const Json& found) {
  Bar bar;
  bar.relative_l2 = positive(found.at("relative_l2"), false);
  bar.least_norm = positive(found.at("least_norm"), true);
  for (const Json& name : found.at("dtypes").items()) bar.dtypes.push_back(dtype_named(name.text()));
  bar.shape = found.at("shape").wholes();
  if (const Json& axis = found.at("rows_axis"); !axis.is_null()) {
    if (axis.whole() < 0 || axis.whole() >= static_cast<std::int64_t>(bar.shape.size()))
      throw Error("rows_axis is no axis of " + text_of(bar.shape));
    bar.rows_axis = static_cast<std::size_t>(axis.whole());
  }
  if (const Json& column = found.at("first_empty_column"); !column.is_null()) bar.first_empty_column = column.whole();
  bar.remark = found.at("remark").text();
  return bar;
}

Case read_case(const Json& found) {
  Case one{found.at("name").text(), found.at("tensors").text(), {}};
  const Json& outputs = found.at("outputs");
  for (const std::string& name : outputs.names()) one.outputs.emplace_back(name, read_bar(outputs.at(name)));
  return one;
}

}  // namespace

Kit read_kit(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  if (!stream) throw Error("cannot be read: " + path);
  std::ostringstream text;
  text << stream.rdbuf();
  try {
    const Json found = Json::parse(text.str());
    if (found.at("schema").whole() != kSchema)
      throw Error("schema " + std::to_string(found.at("schema").whole()) + ", expected " + std::to_string(kSchema));
    Kit kit;
    for (const Json& name : found.at("inputs").items()) kit.inputs.push_back(name.text());
    for (const Json& one : found.at("cases").items()) kit.cases.push_back(read_case(one));
    kit.left_out = found.at("left_out").whole();
    return kit;
  } catch (const Error& error) {
    throw Error(path + ": " + error.what(), error.code());
  }
}

}  // namespace lat_run
