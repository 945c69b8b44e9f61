// Sums of the runs of a sorted list, by groups of threads that take equal stretches of it: a run as long as the list
// costs no more than many short ones. A group writes the sum of every run that begins in its stretch, as far as the
// stretch goes; of a run that began before, it keeps its part aside ("head"). In a second step the first group with a
// head of a run adds up all its parts, in their order. sorted_runs_test.cpp runs both for every small list.
#pragma once

#include <cstdint>

#include "common/host_device.h"

namespace lat {

constexpr int kNoHead = -1;
constexpr int kStretchStep = 8;  // stretches begin at multiples of it: so many numbers are loaded at once

struct Stretch {
  int64_t first, last;  // as far as, not with; empty where first >= last
};

LAT_HOST_DEVICE Stretch stretch_of(int64_t count, int groups, int group) {
  const int64_t each = (count + groups - 1) / groups, length = (each + kStretchStep - 1) / kStretchStep * kStretchStep;
  const int64_t first = length * group, last = first + length;
  return {first, last < count ? last : count};
}

// Whether this group adds up the parts of the run that its head belongs to; those are its own and the groups' after it,
// as long as their heads are of the same run.
LAT_HOST_DEVICE bool adds_up_heads(const int32_t* heads, int group) {
  return heads[group] != kNoHead && (group == 0 || heads[group - 1] != heads[group]);
}

}  // namespace lat
