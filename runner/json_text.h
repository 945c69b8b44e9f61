// JSON as it is written: values one after the other, commas by themselves.
#pragma once

#include <cmath>
#include <locale>
#include <sstream>
#include <string>

#include "failure.h"

namespace lat_edge {

class JsonText {
 public:
  // The program around may have set a locale whose numbers have commas.
  JsonText() { out_.imbue(std::locale::classic()); }

  JsonText& open(char bracket) {
    separate();
    out_ << bracket;
    first_ = true;
    return *this;
  }
  JsonText& close(char bracket) {
    out_ << bracket;
    first_ = false;
    return *this;
  }
  JsonText& key(const std::string& name) {
    separate();
    quote(name);
    out_ << ": ";
    first_ = true;
    return *this;
  }
  JsonText& text(const std::string& value) {
    separate();
    quote(value);
    return *this;
  }
  JsonText& whole(long long value) {
    separate();
    out_ << value;
    return *this;
  }
  JsonText& number(double value) {
    if (!std::isfinite(value)) throw Failure(LAT_FAILED, "the model computed NaN or Inf");
    separate();
    out_.precision(9);
    out_ << value;
    return *this;
  }
  std::string str() const { return out_.str(); }

 private:
  void separate() {
    if (!first_) out_ << ", ";
    first_ = false;
  }
  void quote(const std::string& value) {
    constexpr char kDigits[] = "0123456789abcdef";
    out_ << '"';
    for (const char letter : value) {
      const auto code = static_cast<unsigned char>(letter);
      if (letter == '"' || letter == '\\')
        out_ << '\\' << letter;
      else if (code < 0x20)
        out_ << "\\u00" << kDigits[code >> 4] << kDigits[code & 15];
      else
        out_ << letter;
    }
    out_ << '"';
  }

  std::ostringstream out_;
  bool first_ = true;
};

}  // namespace lat_edge
