// What the two ways to run attention on the device share: cuda_mma_attention.cuh (matrix units: 16-bit elements, and
// float32 where it may be rounded to TF32) and cuda_simt_attention.cuh (float32, and rows that do not lie on 16 bytes).
// Both are made for a choice of rows (RowsOf) and a weighting (cuda_softmax.cuh, cuda_collision_rate.cuh).
#pragma once

#include "common/cuda_instructions.cuh"
#include "common/cuda_storage.cuh"
#include "common/cuda_token_list.cuh"
#include "common/kernel_abi.h"
#include "common/tile_walk.h"

namespace lat {

constexpr float kLog2OfE = 1.44269504f;

// The rows that attend.
enum class RowsOf {
  // Row i of the sequence sees the keys of its window and then the listed ones. Rows that are no key write zeros.
  sequence,
  // Row i of `query` is the i-th global token, sees every key, and writes the row of its position.
  list,
  // Row i of the sequence sees every key. Of the list only key_bits are looked at.
  dense
};

// Whatever the weighting.
struct AttentionRows {
  lat_rows query, key, value, output;
  TokenList list;
  int64_t first_block;  // of this launch
  int32_t tokens, num_heads;
  int32_t window;      // at most N
  int32_t row_blocks;  // of a head; of a list of rows it may be fewer than it takes
  int32_t least_rows;  // a list of fewer rows is left to another kernel
  bool every_row;      // dense: rows that are no key attend too
};

// Of softmax.
struct AttentionTask : AttentionRows {
  float scale_log2;          // scale * log2(e)
  const int32_t* any_token;  // dense, [B]: where it is 0, all keys count alike, whatever their scores
};

// Words of key bits, one for each lane of a warp: all lanes must ask together.
class WordsOfWarp {
 public:
  __device__ __forceinline__ WordsOfWarp(const uint64_t* words, int32_t count) : words_(words), count_(count) {}

  __device__ __forceinline__ uint64_t operator()(int32_t index) {
    if (index < first_ || index >= first_ + 32) {
      first_ = index;
      const int32_t mine = index + static_cast<int32_t>(threadIdx.x % 32);
      word_ = mine < count_ ? words_[mine] : 0;
    }
    return __shfl_sync(0xffffffff, word_, index - first_);
  }

 private:
  const uint64_t* words_;
  int32_t count_;
  int32_t first_ = -64;
  uint64_t word_ = 0;
};

// What a block of threads works on.
template <RowsOf kRowsOf>
struct AttentionBlock {
  int32_t batch, head;
  int32_t first, step;  // blocks of kRows rows: the first, and how much further the next is
  int32_t rows;         // that attend; a block may begin beyond them
  int32_t listed;       // keys of the list

  __device__ __forceinline__ explicit AttentionBlock(const AttentionRows& task) {
    const int64_t block = task.first_block + blockIdx.x;
    first = static_cast<int32_t>(block % task.row_blocks);
    step = task.row_blocks;
    head = static_cast<int32_t>(block / task.row_blocks % task.num_heads);
    batch = static_cast<int32_t>(block / task.row_blocks / task.num_heads);
    const int32_t count = kRowsOf == RowsOf::dense ? 0 : task.list.counts[batch];
    rows = kRowsOf != RowsOf::list ? task.tokens : count < task.least_rows ? 0 : count;
    listed = kRowsOf == RowsOf::sequence ? count : 0;
  }
};

// The keys of rows `first` and on.
template <RowsOf kRowsOf>
__device__ __forceinline__ TileWalk<WordsOfWarp> walk_of(const WordsOfWarp& words, const AttentionRows& task,
                                                         int32_t first, int count,
                                                         const AttentionBlock<kRowsOf>& block) {
  if (kRowsOf != RowsOf::sequence) return {words, task.tokens, task.window, 0, task.tokens - 1, 0};
  const int32_t rows = block.rows - first < count ? block.rows - first : count;
  return {words, task.tokens, task.window, first, first + rows - 1, block.listed};
}

template <class Element>
__device__ __forceinline__ Element* row_of(const lat_rows& rows, int64_t batch, int64_t token, int64_t column) {
  return static_cast<Element*>(rows.data) + batch * rows.batch_stride + token * rows.row_stride + column;
}

// Bit i: row first + i is one that attends, for `count` rows (at most 64) that lie in one word of key bits.
template <RowsOf kRowsOf>
__device__ __forceinline__ uint64_t rows_that_attend(const AttentionRows& task, const uint64_t* key_bits, int32_t first,
                                                     int32_t rows, int count) {
  if (first >= rows) return 0;
  if (kRowsOf == RowsOf::list || (kRowsOf == RowsOf::dense && task.every_row))
    return low_bits(rows - first < count ? rows - first : count);
  return key_bits[first / kTileKeys] >> (first % kTileKeys) & low_bits(count);
}

// Of ops whose arguments have query, key, value and output: rows that see the whole sequence.
template <class Task, class Args>
Task attention_task_of(const Args& args) {
  Task task{};
  task.query = args.query;
  task.key = args.key;
  task.value = args.value;
  task.output = args.output;
  task.tokens = static_cast<int32_t>(args.tokens);
  task.num_heads = static_cast<int32_t>(args.num_heads);
  task.window = task.tokens;
  return task;
}

// Every row begins on 16 bytes; heads and chunks of 8 of 16 bits do then too.
inline bool lies_on_16_bytes(const lat_rows& rows, int64_t element_bytes) {
  return reinterpret_cast<uintptr_t>(rows.data) % 16 == 0 && rows.batch_stride * element_bytes % 16 == 0 &&
         rows.row_stride * element_bytes % 16 == 0;
}

// Query, key, value and output do, so the matrix units can take them.
template <class Rows>
bool all_lie_on_16_bytes(const Rows& rows, int64_t element_bytes = 2) {
  return lies_on_16_bytes(rows.query, element_bytes) && lies_on_16_bytes(rows.key, element_bytes) &&
         lies_on_16_bytes(rows.value, element_bytes) && lies_on_16_bytes(rows.output, element_bytes);
}

// Blocks of threads for blocks of rows.
template <RowsOf kRowsOf>
int32_t row_blocks(int64_t tokens, int rows) {
  // Lists are short; blocks of threads of a long one go on with its next rows.
  constexpr int64_t kBlocksOfList = 4;
  const int64_t blocks = (tokens + rows - 1) / rows;
  return static_cast<int32_t>(kRowsOf == RowsOf::list && blocks > kBlocksOfList ? kBlocksOfList : blocks);
}

}  // namespace lat
