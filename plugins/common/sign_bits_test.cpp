// Signs as the lanes of a warp hold them become words, and the words codes, of every count of hashes and code length.
#include "common/sign_bits.h"

#include <random>
#include <vector>

#include "common/kernel_test.h"
#include "common/mma_layout.h"

namespace {

using lat::test::demand;

void check(int hashes, int code_length, std::mt19937& random) {
  const int columns = hashes * code_length, chunks = lat::sign_chunks(columns), stride = lat::sign_stride(columns);
  demand(chunks * lat::kSignColumns >= columns && (chunks - 1) * lat::kSignColumns < columns, "chunks");
  demand(stride % 2 == 1 && stride > chunks * lat::kSignWords, "rows in different banks, and a word to look into");
  std::vector<bool> sign(static_cast<std::size_t>(8 * chunks * lat::kSignColumns));  // of 8 rows
  for (std::size_t at = 0; at < sign.size(); ++at) sign[at] = random() % 2 != 0;
  const auto sign_at = [&](int row, int column) {
    return sign[static_cast<std::size_t>(row * chunks * lat::kSignColumns + column)];
  };
  // What nobody writes must not be seen.
  std::vector<uint32_t> words(static_cast<std::size_t>(8 * stride), 0xa5a5a5a5);
  for (int row = 0; row < 8; ++row)
    for (int word = 0; word < chunks * lat::kSignWords; ++word)
      words[static_cast<std::size_t>(row * stride + word)] = 0;
  for (int lane = 0; lane < 32; ++lane)
    for (int word = 0; word < chunks * lat::kSignWords; ++word)
      for (int block = 0; block < 4; ++block) {
        const int row = lat::sum_row(lane, 0), column = 32 * word + 8 * block + lat::sum_column(lane, 0);
        words[static_cast<std::size_t>(row * stride + word)] |=
            lat::signs_of_lane(lane, block, sign_at(row, column), sign_at(row, column + 1));
      }
  for (int row = 0; row < 8; ++row)
    for (int hash = 0; hash < hashes; ++hash) {
      uint32_t code = 0;
      for (int t = 0; t < code_length; ++t) code |= static_cast<uint32_t>(sign_at(row, hash * code_length + t)) << t;
      demand(lat::code_of(words.data() + row * stride, hash, code_length) == code, "the code");
    }
}

}  // namespace

int main() {
  std::mt19937 random(1);
  for (int hashes = 1; hashes <= 128; ++hashes)
    for (int code_length = 1; code_length <= 12; ++code_length) check(hashes, code_length, random);
  std::puts("sign bits: every code comes out");
}
