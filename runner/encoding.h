// What a tokenizer makes of a text, or of two.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace lat_edge {

// One entry a token in each list.
struct Encoding {
  std::vector<std::int64_t> ids, type_ids;
  std::vector<std::pair<std::size_t, std::size_t>> offsets;  // first character and the one after the last
  std::vector<int> sequence;                                 // 0 or 1; -1 for tokens that the tokenizer adds

  std::size_t size() const { return ids.size(); }
};

}  // namespace lat_edge
