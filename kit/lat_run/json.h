// JSON as far as this program reads it: the header of a safetensors file, and kit.json. Nothing on the target machine
// is needed for it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace lat_run {

class Json {
 public:
  // The value that a whole text stands for; anything else is an `Error` that says where. A name twice in one object is
  // an error too, and so is nesting deeper than any file of ours.
  static Json parse(const std::string& text);

  // The member of that name; an `Error` where this is no object, or has none.
  const Json& at(const std::string& name) const;
  const Json* find(const std::string& name) const;
  bool is_null() const { return kind_ == Kind::kNull; }
  bool is_text() const { return kind_ == Kind::kText; }
  bool is_array() const { return kind_ == Kind::kArray; }

  // What it must be; an `Error` otherwise.
  const std::string& text() const;
  double number() const;
  std::int64_t whole() const;
  const std::vector<Json>& items() const;         // of an array
  const std::vector<std::string>& names() const;  // of an object, in the order of the text
  std::vector<std::int64_t> wholes() const;

 private:
  friend class JsonReader;
  enum class Kind { kNull, kBool, kNumber, kText, kArray, kObject };

  void demand(Kind kind, const char* what) const;

  Kind kind_ = Kind::kNull;
  double number_ = 0;
  std::string text_;
  std::vector<std::string> names_;
  std::vector<Json> items_;
};

}  // namespace lat_run
