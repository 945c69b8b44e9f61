// Every pair of a row and a value of small cases: each tap exactly once, and no chunk that is not needed.
#include "common/convolution_walk.h"

#include <cstdio>
#include <cstdlib>
#include <map>

namespace {

void expect(bool good, const char* what, int64_t tokens, int64_t taps, int64_t row) {
  if (good) return;
  std::printf("%s: N=%lld K=%lld row=%lld\n", what, static_cast<long long>(tokens), static_cast<long long>(taps),
              static_cast<long long>(row));
  std::exit(1);
}

void check(int32_t tokens, int64_t taps, int rows, int chunk_rows) {
  const lat::TapRange range(taps, tokens);
  for (int64_t first = 0; first < tokens; first += rows) {
    std::map<int64_t, int> met;  // row * taps + tap
    for (int64_t tap = 0; tap < range.count(); tap += lat::kTapsAtOnce) {
      const lat::ConvolutionChunks chunks(range, tap, first, rows, chunk_rows, tokens);
      expect(chunks.taps >= 1 && chunks.taps <= lat::kTapsAtOnce, "taps at once", tokens, taps, first);
      for (int32_t chunk = chunks.from; chunk < chunks.to; ++chunk) {
        bool some = false;
        for (int k = 0; k < chunk_rows; ++k) {
          const int64_t token = chunks.token + int64_t{chunk_rows} * chunk + k;
          if (token < 0 || token >= tokens) continue;
          some = true;
          for (int row = 0; row < rows && first + row < tokens; ++row) {
            const int64_t own = int64_t{chunk_rows} * chunk + k - row;
            if (own < 0 || own >= chunks.taps) continue;
            const int64_t given = range.first(taps) + tap + own;
            expect(first + row - taps / 2 + given == token, "tap and token", tokens, taps, first + row);
            ++met[(first + row) * taps + given];
          }
        }
        expect(some, "an empty chunk", tokens, taps, first);
      }
    }
    for (int64_t row = first; row < first + rows && row < tokens; ++row)
      for (int64_t tap = 0; tap < taps; ++tap) {
        const int64_t token = row - taps / 2 + tap;
        const auto at = met.find(row * taps + tap);
        const int times = at == met.end() ? 0 : at->second;
        expect(times == (token >= 0 && token < tokens ? 1 : 0), "times", tokens, taps, row);
      }
  }
}

}  // namespace

int main() {
  for (const int chunk_rows : {32, 64})
    for (const int rows : {64, 128}) {
      for (int32_t tokens = 1; tokens < 70; tokens += 4)
        for (int64_t taps = 1; taps < 160; taps += 6) check(tokens, taps, rows, chunk_rows);
      for (const int32_t tokens : {127, 128, 129, 300})
        for (const int64_t taps : {1, 63, 65, 127, 511, 513, 1201}) check(tokens, taps, rows, chunk_rows);
    }
  // As far out as sizes go.
  constexpr int32_t kMost = INT32_MAX;
  const lat::TapRange range(kMost, kMost);
  expect(range.half == kMost / 2 && range.count() == kMost, "the most taps", kMost, kMost, 0);
  const lat::ConvolutionChunks last(range, range.count() / 512 * 512, kMost - 1, 128, 64, kMost);
  expect(last.from >= last.to, "beyond the end", kMost, kMost, kMost - 1);
  const lat::ConvolutionChunks middle(range, range.count() / 2, kMost - 1, 128, 64, kMost);
  expect(middle.token == kMost - 1 && middle.from == 0 && middle.to == 1, "the end", kMost, kMost, kMost - 1);
  std::printf("convolution_walk: good\n");
}
