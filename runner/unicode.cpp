#include "unicode.h"

#include "failure.h"
#include "utf8.h"

namespace lat_edge {
namespace {

constexpr std::uint32_t kReplacement = 0xFFFD;

struct Step {
  std::uint32_t point;
  std::size_t bytes;
  bool good;  // else `bytes` is how many belong to one replacement
};

// One character at `at`, by table 3-7 of the Unicode standard.
Step next(const std::string& text, std::size_t at) {
  const auto byte = [&](std::size_t place) {
    return place < text.size() ? static_cast<unsigned char>(text[place]) : 0U;
  };
  const std::uint32_t lead = byte(at);
  if (lead < 0x80) return {lead, 1, true};
  if (lead < 0xC2 || lead > 0xF4) return {kReplacement, 1, false};
  const std::size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  std::uint32_t low = 0x80, high = 0xBF;
  if (lead == 0xE0) low = 0xA0;
  if (lead == 0xED) high = 0x9F;
  if (lead == 0xF0) low = 0x90;
  if (lead == 0xF4) high = 0x8F;
  std::uint32_t point = lead & (0xFFU >> (length + 1));
  for (std::size_t more = 1; more < length; ++more) {
    const std::uint32_t follower = byte(at + more);
    if (follower < low || follower > high) return {kReplacement, more, false};
    point = point << 6 | (follower & 0x3F);
    low = 0x80;
    high = 0xBF;
  }
  return {point, length, true};
}

}  // namespace

std::vector<std::uint32_t> points_of(const std::string& text) {
  std::vector<std::uint32_t> points;
  points.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const Step step = next(text, at);
    if (!step.good) throw bad_input("the text is not UTF-8", {"byte " + std::to_string(at), "", ""});
    points.push_back(step.point);
    at += step.bytes;
  }
  return points;
}

std::string utf8_of(const std::vector<std::uint32_t>& points, std::size_t first, std::size_t end) {
  std::string text;
  for (std::size_t at = first; at < end && at < points.size(); ++at) lat_run::append_utf8(text, points[at]);
  return text;
}

std::string lossy(const std::string& bytes) {
  std::string text;
  for (std::size_t at = 0; at < bytes.size();) {
    const Step step = next(bytes, at);
    lat_run::append_utf8(text, step.point);
    at += step.bytes;
  }
  return text;
}

bool is_space(std::uint32_t point) {
  return (point >= 0x9 && point <= 0xD) || point == 0x20 || point == 0x85 || point == 0xA0 || point == 0x1680 ||
         (point >= 0x2000 && point <= 0x200A) || point == 0x2028 || point == 0x2029 || point == 0x202F ||
         point == 0x205F || point == 0x3000;
}

std::string stripped(const std::vector<std::uint32_t>& points, std::size_t first, std::size_t end) {
  // Python counts four control characters, too.
  const auto is_stripped = [](std::uint32_t point) { return is_space(point) || (point >= 0x1C && point <= 0x1F); };
  end = end < points.size() ? end : points.size();
  while (first < end && is_stripped(points[first])) ++first;
  while (end > first && is_stripped(points[end - 1])) --end;
  return utf8_of(points, first, end);
}

}  // namespace lat_edge
