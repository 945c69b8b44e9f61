// Byte pair encoding of one word: the pair whose merge comes first in the table is joined, until none is left.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

namespace lat_edge {

struct Piece {
  std::int32_t id;
  std::size_t bytes;
};

class BytePairs {
 public:
  // `merges`: (left, right, joined) by rank. A pair twice is an error of the caller's file; the last one counts.
  BytePairs(const std::array<std::int32_t, 256>& of_bytes, const std::vector<std::int32_t>& merges);

  std::vector<Piece> pieces(const std::string& word) const;

 private:
  struct Merge {
    std::int32_t rank, joined;
  };
  const Merge* find(std::int32_t left, std::int32_t right) const;

  std::array<std::int32_t, 256> of_bytes_;
  std::unordered_map<std::uint64_t, Merge> merges_;
};

}  // namespace lat_edge
