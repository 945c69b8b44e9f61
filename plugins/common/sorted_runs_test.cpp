// Every sorted list of up to 40 numbers in runs of drawn lengths, by every count of groups: each number is in the sum
// of its run once, and parts are added in their order.
#include "common/sorted_runs.h"

#include <map>
#include <random>
#include <vector>

#include "common/kernel_test.h"

namespace {

using lat::test::demand;

using Places = std::vector<int64_t>;

void check(const std::vector<int32_t>& code, int groups) {
  std::map<int32_t, Places> sums, wanted;
  std::vector<int32_t> heads(static_cast<std::size_t>(groups), lat::kNoHead);
  std::vector<Places> parts(heads.size());
  const auto count = static_cast<int64_t>(code.size());
  const auto at = [&](int64_t place) { return code[static_cast<std::size_t>(place)]; };
  for (int64_t place = 0; place < count; ++place) wanted[at(place)].push_back(place);
  int64_t covered = 0;
  for (int group = 0; group < groups; ++group) {
    const lat::Stretch stretch = lat::stretch_of(count, groups, group);
    if (stretch.first >= stretch.last) continue;
    demand(stretch.first == covered && stretch.first % lat::kStretchStep == 0, "stretches lie side by side");
    covered = stretch.last;
    int32_t head = lat::kNoHead;
    if (stretch.first > 0 && at(stretch.first - 1) == at(stretch.first)) head = at(stretch.first);
    heads[static_cast<std::size_t>(group)] = head;
    for (int64_t place = stretch.first; place < stretch.last; ++place)
      (at(place) == head ? parts[static_cast<std::size_t>(group)] : sums[at(place)]).push_back(place);
  }
  demand(covered == count, "all of the list");
  for (int group = 0; group < groups; ++group) {
    if (!lat::adds_up_heads(heads.data(), group)) continue;
    const int32_t run = heads[static_cast<std::size_t>(group)];
    for (auto other = static_cast<std::size_t>(group); other < heads.size() && heads[other] == run; ++other)
      sums[run].insert(sums[run].end(), parts[other].begin(), parts[other].end());
  }
  demand(sums == wanted, "every number once, in order");
}

}  // namespace

int main() {
  std::mt19937 random(1);
  for (int count = 0; count <= 40; ++count)
    for (int draw = 0; draw < 60; ++draw) {
      std::vector<int32_t> code;
      const auto longest = 1 + random() % 40;
      for (int32_t run = 0; static_cast<int>(code.size()) < count; ++run) {
        run += static_cast<int32_t>(random() % 2);
        for (auto left = 1 + random() % longest; left > 0 && static_cast<int>(code.size()) < count; --left)
          code.push_back(run);
      }
      for (int groups = 1; groups <= 9; ++groups) check(code, groups);
    }
  constexpr int64_t kMost = INT32_MAX;
  demand(lat::stretch_of(kMost, 3, 2).last == kMost, "the longest list");
  std::puts("sorted runs: every number is in its run's sum once");
}
