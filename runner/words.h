// The cut of a text into words that byte-level BPE begins with: OpenAI's pattern of GPT-2,
//
//     's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//
// with \p{L}, \p{N} and \s as the tokenizers library has them: lat-export asks it for every code point.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace lat_edge {

// Sorted ranges of code points, both ends in them.
using Ranges = std::vector<std::pair<std::uint32_t, std::uint32_t>>;

struct CharacterClasses {
  Ranges letters, numbers, spaces;
};

// Where each word ends; together they are the whole text.
std::vector<std::size_t> word_ends(const std::vector<std::uint32_t>& points, const CharacterClasses& classes);

}  // namespace lat_edge
