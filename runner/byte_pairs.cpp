#include "byte_pairs.h"

#include <queue>
#include <tuple>

namespace lat_edge {
namespace {

std::uint64_t key(std::int32_t left, std::int32_t right) {
  return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 | static_cast<std::uint32_t>(right);
}

// A piece in the chain of those that are left; -1 before the first and behind the last one.
struct Link {
  std::int32_t id;
  std::size_t bytes;
  std::ptrdiff_t before, behind;
};

// Smallest first: rank, then place. `joined` tells a pair that has changed since.
struct Candidate {
  std::int32_t rank, joined;
  std::ptrdiff_t left;
  bool operator<(const Candidate& other) const { return std::tie(other.rank, other.left) < std::tie(rank, left); }
};

}  // namespace

BytePairs::BytePairs(const std::array<std::int32_t, 256>& of_bytes, const std::vector<std::int32_t>& merges)
    : of_bytes_(of_bytes) {
  merges_.reserve(merges.size() / 3);
  for (std::size_t at = 0; at + 2 < merges.size(); at += 3)
    merges_[key(merges[at], merges[at + 1])] = {static_cast<std::int32_t>(at / 3), merges[at + 2]};
}

const BytePairs::Merge* BytePairs::find(std::int32_t left, std::int32_t right) const {
  const auto place = merges_.find(key(left, right));
  return place == merges_.end() ? nullptr : &place->second;
}

std::vector<Piece> BytePairs::pieces(const std::string& word) const {
  const auto count = static_cast<std::ptrdiff_t>(word.size());
  std::vector<Link> chain;
  for (std::ptrdiff_t at = 0; at < count; ++at)
    chain.push_back({of_bytes_[static_cast<unsigned char>(word[static_cast<std::size_t>(at)])], 1, at - 1,
                     at + 1 < count ? at + 1 : -1});
  std::priority_queue<Candidate> waiting;
  const auto link = [&](std::ptrdiff_t at) -> Link& { return chain[static_cast<std::size_t>(at)]; };
  const auto consider = [&](std::ptrdiff_t left) {
    if (left < 0 || link(left).behind < 0) return;
    if (const Merge* merge = find(link(left).id, link(link(left).behind).id))
      waiting.push({merge->rank, merge->joined, left});
  };
  for (std::ptrdiff_t at = 0; at < count; ++at) consider(at);
  while (!waiting.empty()) {
    const Candidate best = waiting.top();
    waiting.pop();
    Link& left = link(best.left);
    if (left.bytes == 0 || left.behind < 0) continue;  // joined to the one before it, or the last one by now
    Link& right = link(left.behind);
    const Merge* merge = find(left.id, right.id);
    // By what they are joined to, as the tokenizers library asks: it is in rank's place where two merges give one
    // token.
    if (merge == nullptr || merge->joined != best.joined) continue;
    left.id = best.joined;
    left.bytes += right.bytes;
    right.bytes = 0;
    left.behind = right.behind;
    if (left.behind >= 0) link(left.behind).before = best.left;
    consider(left.before);
    consider(best.left);
  }
  std::vector<Piece> found;
  for (const Link& one : chain)
    if (one.bytes != 0) found.push_back({one.id, one.bytes});
  return found;
}

}  // namespace lat_edge
