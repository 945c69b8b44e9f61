#include "common/contract.h"

#include <cmath>
#include <cstdio>
#include <cstring>

namespace lat {
namespace {

std::string real_text(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%g", value);
  return text;
}

}  // namespace

void demand_bounds(const Attribute& attribute, int64_t value) {
  if (value >= attribute.least && value <= attribute.most) return;
  throw BadInput(std::string(attribute.name) + ": got " + std::to_string(value) + ", expected " +
                 std::to_string(attribute.least) + " to " + std::to_string(attribute.most));
}

void demand_bounds(const Attribute& attribute, double value) {
  if (value > 0 && std::isfinite(value)) return;
  throw BadInput(std::string(attribute.name) + ": got " + real_text(value) + ", expected a finite number > 0");
}

std::string shape_text(const int64_t* shape, std::size_t rank) {
  std::string text = "[";
  for (std::size_t at = 0; at < rank; ++at) text += (at ? ", " : "") + std::to_string(shape[at]);
  return text + "]";
}

// A size in a port's dims: a letter, or two with * or / between them.
class Sizes::Dim {
 public:
  // Reads one at `text`, and moves it on to the next.
  Dim(const char*& text, const Sizes& sizes) : sizes_(sizes), text_(text, text[1] == '*' || text[1] == '/' ? 3 : 1) {
    text += text_.size();
    while (*text == ' ') ++text;
  }

  char letter() const { return text_.size() == 1 ? text_[0] : kNoLetter; }
  bool known() const { return first() > 0 && second() > 0; }
  bool is(int64_t size) const { return known() && rest() == 0 && size == value(); }
  std::string text() const {
    if (!known()) return text_ + ">=1";
    if (rest() != 0) return text_ + "=" + std::to_string(first()) + "/" + std::to_string(second());
    return text_ + "=" + std::to_string(value());
  }

 private:
  bool product() const { return text_[1] == '*'; }
  int64_t first() const { return sizes_[text_[0]]; }
  int64_t second() const { return letter() != kNoLetter ? 1 : sizes_[text_[2]]; }
  int64_t value() const { return product() ? first() * second() : first() / second(); }
  int64_t rest() const { return product() ? 0 : first() % second(); }

  const Sizes& sizes_;
  const std::string text_;
};

Sizes::Sizes(const std::vector<Attribute>& attributes, const Values& values) {
  for (std::size_t at = 0; at < attributes.size(); ++at) {
    if (attributes[at].kind == Kind::real) {
      demand_bounds(attributes[at], values[at].real);
    } else {
      demand_bounds(attributes[at], values[at].integer);
      if (attributes[at].letter != kNoLetter)
        sizes_[static_cast<unsigned char>(attributes[at].letter)] = values[at].integer;
    }
  }
}

void Sizes::bind(const Port& port, const int64_t* shape, std::size_t rank, bool partly) {
  std::vector<Dim> dims;
  for (const char* text = port.dims; *text != 0;) dims.emplace_back(text, *this);
  bool fits = rank == dims.size();
  for (std::size_t at = 0; fits && at < rank; ++at) {
    if (partly && shape[at] == unknown) continue;
    if (dims[at].letter() != kNoLetter && !dims[at].known())
      sizes_[static_cast<unsigned char>(dims[at].letter())] = shape[at];
    fits = shape[at] >= 1 && (dims[at].is(shape[at]) || (partly && !dims[at].known()));
  }
  if (fits) return;
  std::string expected = "[";
  for (std::size_t at = 0; at < dims.size(); ++at) expected += (at ? ", " : "") + dims[at].text();
  throw BadInput(std::string("input ") + port.name + ": got shape " + shape_text(shape, rank) + ", expected " +
                 expected + "]");
}

void raise(const lat_status& status) {
  if (status.code == LAT_OK) return;
  if (status.code == LAT_BAD_ARGUMENT) throw BadInput(status.message);
  throw std::runtime_error(status.message);
}

}  // namespace lat
