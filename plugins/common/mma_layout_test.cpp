// A warp played on the host, as the PTX ISA says what ldmatrix, mma.sync.m16n8k16 and, for TF32, m16n8k8 do with lanes
// and registers: the products that the CUDA kernels make from shared memory must come out, and no two lanes may meet in
// a bank.
#include "common/mma_layout.h"

#include <array>
#include <random>
#include <set>
#include <vector>

#include "common/kernel_test.h"

namespace {

using lat::Place;
using lat::test::demand;

using Register = std::array<int, 2>;                       // two 16-bit numbers, the low one first
using Fragment = std::array<std::array<Register, 4>, 32>;  // [lane][register]

// PTX ISA, ldmatrix: thread l holds, of each matrix, elements 2 (l % 4) and the next of row l / 4; with .trans, of the
// matrix that is transposed.
Fragment ldmatrix(const std::vector<int>& shared, const std::array<uint32_t, 32>& address, bool transposed) {
  Fragment made;
  for (int lane = 0; lane < 32; ++lane)
    for (int matrix = 0; matrix < 4; ++matrix)
      for (int i = 0; i < 2; ++i) {
        const int outer = lane / 4, inner = 2 * (lane % 4) + i;
        const int row = transposed ? inner : outer, column = transposed ? outer : inner;
        const std::size_t at =
            address[static_cast<std::size_t>(8 * matrix + row)] / 2 + static_cast<std::size_t>(column);
        made[static_cast<std::size_t>(lane)][static_cast<std::size_t>(matrix)][static_cast<std::size_t>(i)] =
            shared.at(at);
      }
  return made;
}

// The rows of 8 addresses that ldmatrix takes at once lie in 8 different groups of 4 banks.
void check_banks(const std::array<uint32_t, 32>& address) {
  for (std::size_t matrix = 0; matrix < 4; ++matrix) {
    std::set<uint32_t> groups;
    for (std::size_t row = 0; row < 8; ++row) groups.insert(address[8 * matrix + row] / 16 % 8);
    demand(groups.size() == 8, "no bank is met twice");
  }
}

// PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type".
void multiply_add(std::vector<int>& sum, int rows_from, int columns_from, int stride, const Fragment& a,
                  const Fragment& b, int b_register) {
  int left[16][16], right[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const auto at = static_cast<std::size_t>(lane);
    const int group = lane >> 2, thread = lane % 4;
    for (int i = 0; i < 8; ++i) {
      const int row = i < 2 || (i >= 4 && i < 6) ? group : group + 8, column = thread * 2 + (i & 1) + (i >= 4 ? 8 : 0);
      left[row][column] = a[at][static_cast<std::size_t>(i / 2)][static_cast<std::size_t>(i % 2)];
    }
    for (int i = 0; i < 4; ++i) {
      const int row = thread * 2 + (i & 1) + (i >= 2 ? 8 : 0);
      right[row][group] = b[at][static_cast<std::size_t>(b_register + i / 2)][static_cast<std::size_t>(i % 2)];
    }
  }
  for (int row = 0; row < 16; ++row)
    for (int column = 0; column < 8; ++column)
      for (int k = 0; k < 16; ++k)
        sum[static_cast<std::size_t>((rows_from + row) * stride + columns_from + column)] +=
            left[row][k] * right[k][column];
}

// The kernels' sums of a block lie where sum_row and sum_column say: PTX's c0 and c1 in row l / 4, c2 and c3 8 below.
void check_sums() {
  std::set<std::pair<int, int>> places;
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < 4; ++i) {
      const int row = (lane >> 2) + (i < 2 ? 0 : 8), column = (lane % 4) * 2 + (i & 1);
      demand(lat::sum_row(lane, i) == row && lat::sum_column(lane, i) == column, "where sums lie");
      places.insert({row, column});
    }
  demand(places.size() == 128, "all of 16 x 8");
}

template <int kColumns, int kBytes>
void check_swizzle() {
  constexpr int kChunks = kColumns * kBytes / 16;
  constexpr uint32_t kRowBytes = kColumns * kBytes;
  const auto swizzled = [](int row, int chunk) { return lat::swizzled<kColumns, kBytes>(row, chunk); };
  std::set<uint32_t> places;
  for (int row = 0; row < 128; ++row)
    for (int chunk = 0; chunk < kChunks; ++chunk) {
      const uint32_t at = swizzled(row, chunk);
      demand(at % 16 == 0 && at < 128 * kRowBytes, "within the rows");
      demand(swizzled(row + 8, chunk) == at + 8 * kRowBytes, "repeats after 8 rows");
      demand(at / (2 * kRowBytes) == static_cast<uint32_t>(row / 2), "within its row and the next");
      demand(lat::pairs_further(swizzled(row, chunk % 2), chunk / 2) == at, "pairs further");
      // Starts are on kSwizzleBytes: what is added below does not meet the bits that are turned.
      demand(lat::pairs_further(swizzled(row, chunk % 2) + 3 * lat::kSwizzleBytes, chunk / 2) ==
                 at + 3 * lat::kSwizzleBytes,
             "wherever it starts");
      places.insert(at);
    }
  demand(places.size() == 128u * kChunks, "each chunk has its place");
  // A copy writes 8 neighbouring chunks at once: 128 bytes of different banks.
  for (int thread = 0; thread < 1024; thread += 8) {
    std::set<uint32_t> groups;
    for (int i = thread; i < thread + 8; ++i) groups.insert(swizzled(i / kChunks, i % kChunks) / 16 % 8);
    demand(groups.size() == 8, "copies meet no bank twice");
  }
}

template <int kColumns>
std::vector<int> numbers(int rows, unsigned seed, std::vector<int>& shared) {
  std::mt19937 random(seed);
  std::vector<int> plain(static_cast<std::size_t>(rows * kColumns));
  shared.assign(plain.size(), -1000000);
  for (int row = 0; row < rows; ++row)
    for (int column = 0; column < kColumns; ++column) {
      const int number = static_cast<int>(random() % 19) - 9;
      plain[static_cast<std::size_t>(row * kColumns + column)] = number;
      shared[lat::swizzled<kColumns>(row, column / 8) / 2 + static_cast<uint32_t>(column % 8)] = number;
    }
  return plain;
}

// 16 rows against 64 keys, then their scores against 64 values, in the order in which the kernels do it.
template <int kColumns>
void check_attention() {
  std::vector<int> shared_q, shared_k, shared_v;
  const std::vector<int> q = numbers<kColumns>(16, 1, shared_q), k = numbers<kColumns>(64, 2, shared_k),
                         v = numbers<kColumns>(64, 3, shared_v);
  const auto addresses = [](Place (*place)(int), int pair, int rows_from) {
    std::array<uint32_t, 32> made;
    for (int lane = 0; lane < 32; ++lane) {
      const Place at = place(lane);
      made[static_cast<std::size_t>(lane)] = lat::pairs_further(lat::swizzled<kColumns>(at.row, at.chunk), pair) +
                                             static_cast<uint32_t>(rows_from * 2 * kColumns);
    }
    check_banks(made);
    return made;
  };
  const auto by_columns = [](int lane) { return lat::place_by_columns(lane); };
  const auto by_rows = [](int lane) { return lat::place_by_rows(lane); };

  std::vector<int> score(16 * 64, 0);
  for (int step = 0; step < kColumns / 16; ++step) {
    const Fragment query = ldmatrix(shared_q, addresses(by_columns, step, 0), false);
    for (int pair = 0; pair < 4; ++pair) {
      const Fragment key = ldmatrix(shared_k, addresses(by_rows, step, 16 * pair), false);
      multiply_add(score, 0, 16 * pair, 64, query, key, 0);
      multiply_add(score, 0, 16 * pair + 8, 64, query, key, 2);
    }
  }
  std::vector<int> context(16 * kColumns, 0);
  for (int step = 0; step < 4; ++step) {
    Fragment weight;
    for (int lane = 0; lane < 32; ++lane)
      for (int i = 0; i < 4; ++i)
        for (int half = 0; half < 2; ++half) {
          // As MmaRows::add packs: register i from block 2 step + i / 2, sums 2 (i % 2) and the next.
          const int sum = 2 * (i % 2) + half, column = 8 * (2 * step + i / 2) + lat::sum_column(lane, sum);
          weight[static_cast<std::size_t>(lane)][static_cast<std::size_t>(i)][static_cast<std::size_t>(half)] =
              score[static_cast<std::size_t>(lat::sum_row(lane, sum) * 64 + column)];
        }
    for (int pair = 0; pair < kColumns / 16; ++pair) {
      const Fragment value = ldmatrix(shared_v, addresses(by_columns, pair, 16 * step), true);
      multiply_add(context, 0, 16 * pair, kColumns, weight, value, 0);
      multiply_add(context, 0, 16 * pair + 8, kColumns, weight, value, 2);
    }
  }
  for (int row = 0; row < 16; ++row) {
    std::vector<int> weights(64, 0);
    for (int key = 0; key < 64; ++key) {
      for (int at = 0; at < kColumns; ++at)
        weights[static_cast<std::size_t>(key)] +=
            q[static_cast<std::size_t>(row * kColumns + at)] * k[static_cast<std::size_t>(key * kColumns + at)];
      demand(score[static_cast<std::size_t>(row * 64 + key)] == weights[static_cast<std::size_t>(key)], "scores");
    }
    for (int column = 0; column < kColumns; ++column) {
      int sum = 0;
      for (int key = 0; key < 64; ++key)
        sum += weights[static_cast<std::size_t>(key)] * v[static_cast<std::size_t>(key * kColumns + column)];
      demand(context[static_cast<std::size_t>(row * kColumns + column)] == sum, "context");
    }
  }
}

// Of float32: ldmatrix takes each number for two of 16 bits.
struct Warp {
  // What 32 lanes read at addresses, 4 bytes each.
  static std::array<int, 32> words(const std::vector<int>& shared, const std::array<uint32_t, 32>& address) {
    std::array<int, 32> made;
    std::set<uint32_t> banks;
    for (std::size_t lane = 0; lane < 32; ++lane) {
      made[lane] = shared.at(address[lane] / 4);
      banks.insert(address[lane] / 4 % 32);
    }
    demand(banks.size() == 32, "values meet no bank twice");
    return made;
  }

  // PTX ISA, ldmatrix: register i of a lane is 4 bytes of row lane / 4 of matrix i, from byte lane % 4 * 4 on.
  static std::array<std::array<int, 32>, 4> matrices(const std::vector<int>& shared,
                                                     const std::array<uint32_t, 32>& address) {
    check_banks(address);
    std::array<std::array<int, 32>, 4> made;
    for (std::size_t i = 0; i < 4; ++i)
      for (std::size_t lane = 0; lane < 32; ++lane) made[i][lane] = shared.at(address[8 * i + lane / 4] / 4 + lane % 4);
    return made;
  }

  // PTX ISA, "Matrix Fragments for mma.m16n8k8", .tf32.
  static void multiply_add(int (&sum)[16][8], const std::array<std::array<int, 32>, 4>& a,
                           const std::array<int, 32>& b0, const std::array<int, 32>& b1) {
    int left[16][8], right[8][8];
    for (std::size_t lane = 0; lane < 32; ++lane) {
      const std::size_t group = lane >> 2, thread = lane % 4;
      for (std::size_t i = 0; i < 4; ++i)
        left[i == 0 || i == 2 ? group : group + 8][i < 2 ? thread : thread + 4] = a[i][lane];
      right[thread][group] = b0[lane];
      right[thread + 4][group] = b1[lane];
    }
    for (int row = 0; row < 16; ++row)
      for (int column = 0; column < 8; ++column)
        for (int k = 0; k < 8; ++k) sum[row][column] += left[row][k] * right[k][column];
  }
};

template <int kColumns>
std::vector<int> float_numbers(int rows, unsigned seed, std::vector<int>& shared) {
  std::mt19937 random(seed);
  std::vector<int> plain(static_cast<std::size_t>(rows * kColumns));
  shared.assign(plain.size(), -1000000);
  for (int row = 0; row < rows; ++row)
    for (int column = 0; column < kColumns; ++column) {
      const int number = static_cast<int>(random() % 19) - 9;
      plain[static_cast<std::size_t>(row * kColumns + column)] = number;
      shared[lat::swizzled<kColumns, 4>(row, column / 4) / 4 + static_cast<uint32_t>(column % 4)] = number;
    }
  return plain;
}

// 16 rows against 8 of 16 keys, then their scores against these keys' values, in the order in which the kernels do it.
template <int kColumns>
void check_float_attention() {
  std::vector<int> shared_q, shared_k, shared_v;
  const std::vector<int> q = float_numbers<kColumns>(16, 1, shared_q), k = float_numbers<kColumns>(16, 2, shared_k),
                         v = float_numbers<kColumns>(16, 3, shared_v);
  const auto addresses = [](Place (*place)(int), int step) {
    std::array<uint32_t, 32> made;
    for (int lane = 0; lane < 32; ++lane)
      made[static_cast<std::size_t>(lane)] =
          lat::pairs_further(lat::swizzled<kColumns, 4>(place(lane).row, place(lane).chunk), step);
    return made;
  };
  for (int half = 0; half < 2; ++half) {
    int score[16][8] = {};
    for (int step = 0; step < kColumns / 8; ++step) {
      const auto query =
          Warp::matrices(shared_q, addresses([](int lane) { return lat::place_by_columns(lane); }, step));
      const auto key = Warp::matrices(shared_k, addresses([](int lane) { return lat::place_by_rows(lane); }, step));
      const auto first = static_cast<std::size_t>(2 * half);
      Warp::multiply_add(score, query, key[first], key[first + 1]);
    }
    std::array<std::array<int, 32>, 4> weight;
    for (int i = 0; i < 4; ++i)
      for (int lane = 0; lane < 32; ++lane) {
        const int sum = lat::weight_of_key(i);
        weight[static_cast<std::size_t>(i)][static_cast<std::size_t>(lane)] =
            score[lat::sum_row(lane, sum)][lat::sum_column(lane, sum)];
      }
    for (int column = 0; column < kColumns / 8; ++column) {
      std::array<std::array<int, 32>, 2> value;
      for (int i = 0; i < 2; ++i) {
        std::array<uint32_t, 32> address;
        for (int lane = 0; lane < 32; ++lane)
          address[static_cast<std::size_t>(lane)] =
              lat::pairs_further(lat::swizzled<kColumns, 4>(lat::sum_column(lane, i), lane / 16) +
                                     static_cast<uint32_t>(lane / 4 % 4 * 4),
                                 column) +
              static_cast<uint32_t>(half * 8 * 4 * kColumns);
        value[static_cast<std::size_t>(i)] = Warp::words(shared_v, address);
      }
      int context[16][8] = {};
      Warp::multiply_add(context, weight, value[0], value[1]);
      for (int row = 0; row < 16; ++row)
        for (int at = 0; at < 8; ++at) {
          int expected = 0;
          for (int key = 8 * half; key < 8 * half + 8; ++key) {
            int product = 0;
            for (int d = 0; d < kColumns; ++d)
              product +=
                  q[static_cast<std::size_t>(row * kColumns + d)] * k[static_cast<std::size_t>(key * kColumns + d)];
            demand(score[row][key % 8] == product, "scores of float32");
            expected += product * v[static_cast<std::size_t>(key * kColumns + 8 * column + at)];
          }
          demand(context[row][at] == expected, "context of float32");
        }
    }
  }
}

template <int kColumns>
void check() {
  check_swizzle<kColumns, 2>();
  check_swizzle<kColumns, 4>();
  check_attention<kColumns>();
  check_float_attention<kColumns>();
}

}  // namespace

int main() {
  check_sums();
  check<16>();
  check<32>();
  check<64>();
  check<128>();
  std::puts("mma layout: products and banks are right");
}
