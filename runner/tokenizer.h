// Byte-level BPE (GPT-2's, RoBERTa's, Longformer's) from what lat-export took out of tokenizer.json: the same ids and
// offsets as the tokenizers library gives. Other kinds of tokenizers are refused by lat-export, and never come here.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "byte_pairs.h"
#include "encoding.h"
#include "json.h"
#include "words.h"

namespace lat_edge {

class Tokenizer {
 public:
  // `facts`: "tokenizer" of edge.json. `folder` holds the file that they name.
  Tokenizer(const lat_run::Json& facts, const std::string& folder);

  // `pair` may be null.
  Encoding encode(const std::string& text, const std::string* pair) const;

  std::string decode(const std::vector<std::int64_t>& ids, bool skip_special) const;

 private:
  // A token beside the model's: found in the text before anything else is.
  struct Added {
    std::int64_t id;
    std::vector<std::uint32_t> content;
    bool strips_left, strips_right, normalized, special;
  };
  // Of a whole sequence: tokens that the tokenizer adds, and where the texts go (sequence 0 or 1).
  struct Part {
    int sequence;  // -1: `id`
    std::int64_t id, type;
  };
  // Where in a text an added token was found; `token` is null for what lies between.
  struct Segment {
    std::size_t first, end;
    const Added* token;
  };
  struct Token {
    std::int64_t id;
    std::size_t first, end;                    // characters
    std::size_t blanks_before, blanks_behind;  // white space in the token itself
  };

  static std::vector<Part> read_parts(const lat_run::Json& found);
  void read_tables(const std::string& path);
  std::vector<Segment> segments(const std::vector<std::uint32_t>& points, Segment whole, bool normalized) const;
  std::vector<Token> tokens(const std::vector<std::uint32_t>& points) const;
  void append_words(const std::vector<std::uint32_t>& points, Segment segment, std::vector<Token>& found) const;
  void trim(std::vector<Token>& tokens) const;

  bool adds_blank_, trims_, trims_after_blank_;
  std::vector<Part> single_, pair_;
  std::vector<Added> added_;
  CharacterClasses classes_;
  std::vector<std::string> bytes_of_;  // by id
  std::unique_ptr<BytePairs> byte_pairs_;
};

}  // namespace lat_edge
