#include "words.h"

#include <algorithm>

namespace lat_edge {
namespace {

enum class Kind { kLetter, kNumber, kSpace, kOther };

bool holds(const Ranges& ranges, std::uint32_t point) {
  const auto after = std::upper_bound(ranges.begin(), ranges.end(), point,
                                      [](std::uint32_t value, const auto& range) { return value < range.first; });
  return after != ranges.begin() && point <= std::prev(after)->second;
}

class Reader {
 public:
  Reader(const std::vector<std::uint32_t>& points, const CharacterClasses& classes) : points_(points) {
    kinds_.reserve(points.size());
    for (const std::uint32_t point : points)
      kinds_.push_back(holds(classes.letters, point)   ? Kind::kLetter
                       : holds(classes.numbers, point) ? Kind::kNumber
                       : holds(classes.spaces, point)  ? Kind::kSpace
                                                       : Kind::kOther);
  }

  std::size_t end_from(std::size_t at) const {
    if (const std::size_t end = contraction(at); end != at) return end;
    // A blank goes to what follows, unless that is white space.
    const std::size_t first = points_[at] == ' ' && at + 1 < points_.size() ? at + 1 : at;
    if (kinds_[first] != Kind::kSpace) return run(first);
    const std::size_t end = run(at);
    // The last one of several is left to the word behind them.
    return end < points_.size() && end - at > 1 ? end - 1 : end;
  }

 private:
  std::size_t run(std::size_t at) const {
    const Kind kind = kinds_[at];
    while (at < points_.size() && kinds_[at] == kind) ++at;
    return at;
  }

  std::size_t contraction(std::size_t at) const {
    constexpr const char* kEndings[] = {"s", "t", "re", "ve", "m", "ll", "d"};
    if (points_[at] != '\'') return at;
    for (const char* ending : kEndings) {
      std::size_t end = at + 1;
      const char* letter = ending;
      while (*letter != '\0' && end < points_.size() && points_[end] == static_cast<std::uint32_t>(*letter)) {
        ++letter;
        ++end;
      }
      if (*letter == '\0') return end;
    }
    return at;
  }

  const std::vector<std::uint32_t>& points_;
  std::vector<Kind> kinds_;
};

}  // namespace

std::vector<std::size_t> word_ends(const std::vector<std::uint32_t>& points, const CharacterClasses& classes) {
  const Reader reader(points, classes);
  std::vector<std::size_t> ends;
  for (std::size_t at = 0; at < points.size(); at = ends.back()) ends.push_back(reader.end_from(at));
  return ends;
}

}  // namespace lat_edge
