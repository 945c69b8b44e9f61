#include "tokenizer.h"

#include <algorithm>
#include <cstring>

#include "error.h"
#include "failure.h"
#include "tensor_file.h"
#include "unicode.h"
#include "utf8.h"

namespace lat_edge {
namespace {

using lat_run::Array;
using lat_run::Json;
using Points = std::vector<std::uint32_t>;

std::vector<std::int32_t> wholes(lat_run::TensorFile& file, const std::string& name) {
  const Array array = file.read(name);
  if (array.dtype != lat_run::DType::kInt32) throw lat_run::Error(name + ": expected int32");
  std::vector<std::int32_t> found(array.count());
  if (!found.empty()) std::memcpy(found.data(), array.bytes.data(), array.bytes.size());
  return found;
}

Ranges ranges(lat_run::TensorFile& file, const std::string& name) {
  const std::vector<std::int32_t> ends = wholes(file, name);
  Ranges found;
  for (std::size_t at = 0; at + 1 < ends.size(); at += 2)
    found.emplace_back(static_cast<std::uint32_t>(ends[at]), static_cast<std::uint32_t>(ends[at + 1]));
  return found;
}

bool begins_with(const Points& points, std::size_t at, std::size_t end, const Points& content) {
  return content.size() <= end - at &&
         std::equal(content.begin(), content.end(), points.begin() + static_cast<std::ptrdiff_t>(at));
}

}  // namespace

Tokenizer::Tokenizer(const Json& facts, const std::string& folder)
    : adds_blank_(facts.at("add_prefix_space").whole() != 0),
      trims_(facts.at("trim_offsets").whole() != 0),
      trims_after_blank_(facts.at("trim_prefix_space").whole() != 0),
      single_(read_parts(facts.at("single"))),
      pair_(read_parts(facts.at("pair"))) {
  for (const Json& one : facts.at("added_tokens").items())
    added_.push_back({one.at("id").whole(), points_of(one.at("content").text()), one.at("lstrip").whole() != 0,
                      one.at("rstrip").whole() != 0, one.at("normalized").whole() != 0,
                      one.at("special").whole() != 0});
  read_tables(folder + "/" + facts.at("file").text());
}

std::vector<Tokenizer::Part> Tokenizer::read_parts(const Json& found) {
  std::vector<Part> parts;
  for (const Json& one : found.items()) {
    const Json& sequence = one.at("sequence");
    const bool is_text = !sequence.is_null();
    parts.push_back({is_text ? static_cast<int>(sequence.whole()) : -1, is_text ? 0 : one.at("id").whole(),
                     one.at("type").whole()});
  }
  return parts;
}

void Tokenizer::read_tables(const std::string& path) {
  lat_run::TensorFile file(path);
  classes_ = {ranges(file, "classes.letters"), ranges(file, "classes.numbers"), ranges(file, "classes.spaces")};
  const Array bytes = file.read("vocabulary.bytes");
  std::size_t first = 0;
  for (const std::int32_t end : wholes(file, "vocabulary.ends")) {
    if (end < 0 || static_cast<std::size_t>(end) < first || static_cast<std::size_t>(end) > bytes.bytes.size())
      throw lat_run::Error(path + ": vocabulary.ends lie outside of its bytes");
    bytes_of_.emplace_back(bytes.bytes.data() + first, static_cast<std::size_t>(end) - first);
    first = static_cast<std::size_t>(end);
  }
  const std::vector<std::int32_t> of_bytes = wholes(file, "bytes"), merges = wholes(file, "merges");
  std::array<std::int32_t, 256> table{};
  if (of_bytes.size() != table.size() || merges.size() % 3 != 0)
    throw lat_run::Error(path + ": tables of another form");
  std::copy(of_bytes.begin(), of_bytes.end(), table.begin());
  byte_pairs_ = std::make_unique<BytePairs>(table, merges);
}

// The longest added token at each place, from the left; then the white space that it takes along.
std::vector<Tokenizer::Segment> Tokenizer::segments(const Points& points, Segment whole, bool normalized) const {
  std::vector<Segment> found;
  std::size_t done = whole.first;
  for (std::size_t at = whole.first; at < whole.end;) {
    const Added* best = nullptr;
    for (const Added& one : added_)
      if (one.normalized == normalized && begins_with(points, at, whole.end, one.content) &&
          (best == nullptr || best->content.size() < one.content.size()))
        best = &one;
    if (best == nullptr) {
      ++at;
      continue;
    }
    std::size_t first = at, end = at + best->content.size();
    at = end;
    while (best->strips_left && first > done && is_space(points[first - 1])) --first;
    while (best->strips_right && end < whole.end && is_space(points[end])) ++end;
    if (done < first) found.push_back({done, first, nullptr});
    found.push_back({first, end, best});
    done = end;
  }
  if (done != whole.end) found.push_back({done, whole.end, nullptr});
  return found;
}

std::vector<Tokenizer::Token> Tokenizer::tokens(const Points& points) const {
  std::vector<Token> found;
  const auto append = [&](const Segment& segment) {
    if (segment.token == nullptr) return append_words(points, segment, found);
    std::size_t before = segment.first, behind = segment.end;
    while (before < segment.end && is_space(points[before])) ++before;
    while (behind > segment.first && is_space(points[behind - 1])) --behind;
    found.push_back({segment.token->id, segment.first, segment.end, before - segment.first, segment.end - behind});
  };
  for (const Segment& outer : segments(points, {0, points.size(), nullptr}, false)) {
    if (outer.token != nullptr)
      append(outer);
    else
      for (const Segment& inner : segments(points, outer, true)) append(inner);
  }
  return found;
}

void Tokenizer::append_words(const Points& points, Segment segment, std::vector<Token>& found) const {
  if (segment.first == segment.end) return;
  Points part(points.begin() + static_cast<std::ptrdiff_t>(segment.first),
              points.begin() + static_cast<std::ptrdiff_t>(segment.end));
  // A blank that is put before counts as the first character.
  const std::size_t put = adds_blank_ && part.front() != ' ' ? 1 : 0;
  part.insert(part.begin(), put, ' ');
  const auto place = [&](std::size_t at) { return segment.first + (at < put ? 0 : at - put); };
  std::size_t first = 0;
  for (const std::size_t end : word_ends(part, classes_)) {
    std::string word;
    std::vector<std::size_t> places;  // of each byte's character
    for (; first < end; ++first) {
      lat_run::append_utf8(word, part[first]);
      places.resize(word.size(), place(first));
    }
    std::size_t byte = 0;
    for (const Piece& piece : byte_pairs_->pieces(word)) {
      const std::string bytes = word.substr(byte, piece.bytes);
      const std::size_t before = std::min(bytes.find_first_not_of(' '), bytes.size());
      const std::size_t last = bytes.find_last_not_of(' ');
      const std::size_t behind = last == std::string::npos ? bytes.size() : bytes.size() - 1 - last;
      found.push_back({piece.id, places[byte], places[byte + piece.bytes - 1] + 1, before, behind});
      byte += piece.bytes;
    }
  }
}

// Offsets without the blanks of their tokens, as the library's post-processor leaves them.
void Tokenizer::trim(std::vector<Token>& tokens) const {
  for (std::size_t at = 0; at < tokens.size(); ++at) {
    Token& token = tokens[at];
    const bool is_first = at == 0 || token.first == 0;
    // One blank before the first word may be the one that was put there.
    const bool was_put = is_first && trims_after_blank_ && token.blanks_before == 1;
    if (!was_put) token.first = std::min(token.first + token.blanks_before, token.end);
    if (token.blanks_behind > 0 && token.end >= token.blanks_behind)
      token.end = std::max(token.end - token.blanks_behind, token.first);
  }
}

Encoding Tokenizer::encode(const std::string& text, const std::string* pair) const {
  std::vector<Token> of[2];
  of[0] = tokens(points_of(text));
  if (pair != nullptr) of[1] = tokens(points_of(*pair));
  Encoding encoding;
  const auto append = [&](const Token& token, std::int64_t type, int sequence) {
    encoding.ids.push_back(token.id);
    encoding.type_ids.push_back(type);
    encoding.offsets.emplace_back(token.first, token.end);
    encoding.sequence.push_back(sequence);
  };
  for (const Part& part : pair == nullptr ? single_ : pair_) {
    if (part.sequence < 0) {
      append({part.id, 0, 0, 0, 0}, part.type, -1);
      continue;
    }
    std::vector<Token>& tokens = of[part.sequence];
    if (trims_) trim(tokens);
    for (const Token& token : tokens) append(token, part.type, part.sequence);
  }
  return encoding;
}

std::string Tokenizer::decode(const std::vector<std::int64_t>& ids, bool skip_special) const {
  const auto is_special = [&](std::int64_t id) {
    return std::any_of(added_.begin(), added_.end(), [&](const Added& one) { return one.special && one.id == id; });
  };
  std::string bytes;
  for (const std::int64_t id : ids)
    if (id >= 0 && static_cast<std::size_t>(id) < bytes_of_.size() && !(skip_special && is_special(id)))
      bytes += bytes_of_[static_cast<std::size_t>(id)];
  return lossy(bytes);
}

}  // namespace lat_edge
