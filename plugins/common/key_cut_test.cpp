// Every tile in exactly one segment, no segment without tiles, and memory that is enough for smaller sizes too.
#include "common/key_cut.h"

#include <cstdio>
#include <cstdlib>

namespace {

void expect(bool good, const char* what, int64_t heads, int64_t panels, int64_t tokens) {
  if (good) return;
  std::printf("%s: heads=%lld panels=%lld N=%lld\n", what, static_cast<long long>(heads),
              static_cast<long long>(panels), static_cast<long long>(tokens));
  std::exit(1);
}

void check(int64_t heads, int64_t panels, int64_t tokens) {
  const lat::KeyCut cut(heads, panels, tokens);
  const int64_t tiles = (tokens + 63) / 64;
  expect(cut.segments >= 1 && cut.segments <= lat::KeyCut::kMostSegments, "segments", heads, panels, tokens);
  expect(cut.segments * cut.tiles_of_segment >= tiles, "all tiles", heads, panels, tokens);
  expect((cut.segments - 1) * cut.tiles_of_segment < tiles, "an empty segment", heads, panels, tokens);
  expect(heads * cut.segments <= lat::KeyCut::capacity(heads, tokens), "capacity", heads, panels, tokens);
}

}  // namespace

int main() {
  for (int64_t panels = 1; panels <= 2; ++panels)
    for (int64_t heads = 1; heads < 1000; heads += heads < 100 ? 1 : 37)
      for (int64_t tokens = 1; tokens < 20000; tokens += tokens < 300 ? 1 : 63) {
        check(heads, panels, tokens);
        expect(lat::KeyCut::capacity(heads + 1, tokens) >= lat::KeyCut::capacity(heads, tokens), "heads", heads, panels,
               tokens);
        expect(lat::KeyCut::capacity(heads, tokens + 1) >= lat::KeyCut::capacity(heads, tokens), "tokens", heads,
               panels, tokens);
      }
  check(1, 1, INT32_MAX);
  check(INT32_MAX, 2, INT32_MAX);
  std::printf("key_cut: good\n");
}
