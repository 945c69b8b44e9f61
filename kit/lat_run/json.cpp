#include "json.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "error.h"
#include "utf8.h"

namespace lat_run {

namespace {

constexpr int kDeepest = 32;
constexpr double kExactWhole = 9007199254740992.0;  // 2^53

}  // namespace

// Reads one value after the other from a text.
class JsonReader {
 public:
  explicit JsonReader(const std::string& text) : text_(text) {}

  Json whole_text() {
    Json value = next(0);
    skip_space();
    if (at_ != text_.size()) fail("more after the end");
    return value;
  }

 private:
  [[noreturn]] void fail(const std::string& why) const {
    throw Error("no JSON: " + why + " at byte " + std::to_string(at_));
  }

  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

  void skip_space() {
    while (at_ < text_.size() && std::strchr(" \t\r\n", text_[at_]) != nullptr && text_[at_] != '\0') ++at_;
  }

  bool take(char wanted) {
    skip_space();
    if (at_ >= text_.size() || text_[at_] != wanted) return false;
    ++at_;
    return true;
  }

  void demand(char wanted) {
    if (!take(wanted)) fail(std::string("expected ") + wanted);
  }

  Json next(int depth) {
    if (depth > kDeepest) fail("nested too deep");
    skip_space();
    Json value;
    switch (peek()) {
      case '{':
        object(value, depth);
        break;
      case '[':
        array(value, depth);
        break;
      case '"':
        value.kind_ = Json::Kind::kText;
        value.text_ = string();
        break;
      case 't':
        word("true", value, Json::Kind::kBool, 1);
        break;
      case 'f':
        word("false", value, Json::Kind::kBool, 0);
        break;
      case 'n':
        word("null", value, Json::Kind::kNull, 0);
        break;
      default:
        value.kind_ = Json::Kind::kNumber;
        value.number_ = number();
    }
    return value;
  }

  void object(Json& value, int depth) {
    value.kind_ = Json::Kind::kObject;
    demand('{');
    if (take('}')) return;
    do {
      skip_space();
      if (peek() != '"') fail("expected a name");
      std::string name = string();
      if (std::find(value.names_.begin(), value.names_.end(), name) != value.names_.end()) fail("a name twice");
      demand(':');
      value.items_.push_back(next(depth + 1));
      value.names_.push_back(std::move(name));
    } while (take(','));
    demand('}');
  }

  void array(Json& value, int depth) {
    value.kind_ = Json::Kind::kArray;
    demand('[');
    if (take(']')) return;
    do value.items_.push_back(next(depth + 1));
    while (take(','));
    demand(']');
  }

  void word(const char* wanted, Json& value, Json::Kind kind, double number) {
    if (text_.compare(at_, std::strlen(wanted), wanted) != 0) fail("an unknown word");
    at_ += std::strlen(wanted);
    value.kind_ = kind;
    value.number_ = number;
  }

  void digits() {
    const std::size_t first = at_;
    while (peek() >= '0' && peek() <= '9') ++at_;
    if (at_ == first) fail("expected a value");
  }

  // strtod alone would take hexadecimal numbers and NaN.
  double number() {
    const std::size_t first = at_;
    if (peek() == '-') ++at_;
    if (peek() == '0' && at_ + 1 < text_.size() && text_[at_ + 1] >= '0' && text_[at_ + 1] <= '9') fail("a leading 0");
    digits();
    if (peek() == '.') {
      ++at_;
      digits();
    }
    if (peek() == 'e' || peek() == 'E') {
      ++at_;
      if (peek() == '+' || peek() == '-') ++at_;
      digits();
    }
    return std::strtod(text_.substr(first, at_ - first).c_str(), nullptr);
  }

  std::string string() {
    demand('"');
    std::string found;
    while (at_ < text_.size() && text_[at_] != '"') {
      const char letter = text_[at_++];
      if (static_cast<unsigned char>(letter) < 0x20) fail("a control character in a string");
      if (letter == '\\')
        escaped(found);
      else
        found += letter;
    }
    if (at_ >= text_.size()) fail("a string without an end");
    ++at_;
    return found;
  }

  void escaped(std::string& found) {
    const char letter = peek();
    ++at_;
    constexpr char kLetters[] = "\"\\/bfnrt", kMeanings[] = "\"\\/\b\f\n\r\t";
    if (letter == 'u') {
      std::uint32_t point = four_digits();
      if (point >= 0xD800 && point < 0xDC00 && text_.compare(at_, 2, "\\u") == 0) {
        at_ += 2;
        const std::uint32_t low = four_digits();
        if (low < 0xDC00 || low > 0xDFFF) fail("half of a pair");
        point = 0x10000 + (point - 0xD800) * 0x400 + (low - 0xDC00);
      }
      append_utf8(found, point);
      return;
    }
    const char* place = letter == '\0' ? nullptr : std::strchr(kLetters, letter);
    if (place == nullptr) fail("an unknown escape");
    found += kMeanings[place - kLetters];
  }

  std::uint32_t four_digits() {
    std::uint32_t value = 0;
    for (int count = 0; count < 4; ++count, ++at_) {
      constexpr char kDigits[] = "0123456789abcdef";
      const char letter = peek() >= 'A' && peek() <= 'F' ? static_cast<char>(peek() - 'A' + 'a') : peek();
      const char* place = letter == '\0' ? nullptr : std::strchr(kDigits, letter);
      if (place == nullptr) fail("expected four hexadecimal digits");
      value = value * 16 + static_cast<std::uint32_t>(place - kDigits);
    }
    return value;
  }

  const std::string& text_;
  std::size_t at_ = 0;
};

Json Json::parse(const std::string& text) { return JsonReader(text).whole_text(); }

void Json::demand(Kind kind, const char* what) const {
  if (kind_ != kind) throw Error(std::string("JSON of another form: expected ") + what);
}

const Json* Json::find(const std::string& name) const {
  demand(Kind::kObject, "an object");
  const auto place = std::find(names_.begin(), names_.end(), name);
  return place == names_.end() ? nullptr : &items_[static_cast<std::size_t>(place - names_.begin())];
}

const Json& Json::at(const std::string& name) const {
  const Json* found = find(name);
  if (found == nullptr) throw Error("JSON of another form: no \"" + name + "\"");
  return *found;
}

const std::string& Json::text() const {
  demand(Kind::kText, "a string");
  return text_;
}

double Json::number() const {
  demand(Kind::kNumber, "a number");
  return number_;
}

std::int64_t Json::whole() const {
  const double value = number();
  if (std::floor(value) != value || std::abs(value) > kExactWhole)
    throw Error("JSON of another form: expected a whole number");
  return static_cast<std::int64_t>(value);
}

const std::vector<Json>& Json::items() const {
  demand(Kind::kArray, "an array");
  return items_;
}

const std::vector<std::string>& Json::names() const {
  demand(Kind::kObject, "an object");
  return names_;
}

std::vector<std::int64_t> Json::wholes() const {
  std::vector<std::int64_t> found;
  for (const Json& item : items()) found.push_back(item.whole());
  return found;
}

}  // namespace lat_run
