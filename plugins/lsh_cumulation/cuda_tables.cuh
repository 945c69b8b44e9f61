// Tables of summed values in shared memory, and their sums over hashes. A block of threads has a head, a slice of its
// columns and a share of its hashes; it makes the tables of a few hashes at a time from the keys in the order of their
// codes (cuda_order.cuh, common/sorted_runs.h), and every query then adds up its rows of them, hash after hash. What it
// adds up is kept in global memory between one few hashes and the next. Then finish_rows: the shares, in their order,
// the mean, and the norm. Nothing hangs on which thread is faster.
#pragma once

#include <type_traits>

#include "common/cuda_attention.cuh"
#include "common/cuda_instructions.cuh"
#include "common/cuda_launch.cuh"
#include "common/cuda_storage.cuh"
#include "common/sorted_runs.h"

namespace lat {

struct TableTask {
  lat_rows value;
  uint64_t value_row_bytes;
  const uint16_t *query_codes, *key_codes;  // [B, H, R] lists of `stride`; the keys' in order
  const int32_t *order, *kept;              // [B, H, R] lists of `stride`; [B, H, R]
  float* sums;                              // [shares][B, H][slices][N][columns of a slice]
  int64_t first_block, stride, heads;       // B * H
  int32_t tokens, num_heads, num_hash, code_count;
  int32_t slices, shares, most_tables;
};

// kColumns of D: a table of 2^T rows of them takes 32 KiB or less (64 KiB with T = 12). 4 columns a thread.
template <int kColumns>
struct TableShape {
  static constexpr int kThreads = 1024, kLanes = kColumns / 4, kGroups = kThreads / kLanes;
  static constexpr int kMostTables = 8;
  // Parts of runs, and the codes that they are of; then the tables.
  static constexpr int kPartBytes = kThreads * 16 + kGroups * 4;
  static int table_bytes(int code_count) { return code_count * kColumns * 4; }
};

// 4 numbers as they are stored.
template <class Element>
struct Quad {
  uint2 bits;
  __device__ __forceinline__ float4 numbers() const {
    Element element[4];
    memcpy(element, &bits, sizeof element);
    return make_float4(to_float(element[0]), to_float(element[1]), to_float(element[2]), to_float(element[3]));
  }
};
template <>
struct Quad<float> {
  float4 bits;
  __device__ __forceinline__ float4 numbers() const { return bits; }
};

template <bool kAligned, class Element>
__device__ __forceinline__ Quad<Element> load_quad(const Element* from) {
  Quad<Element> quad;
  if (kAligned) {
    quad.bits = *reinterpret_cast<const decltype(quad.bits)*>(from);
  } else {
    Element element[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) element[i] = from[i];
    memcpy(&quad.bits, element, sizeof element);
  }
  return quad;
}

__device__ __forceinline__ void add(float4& sum, const float4& more) {
  sum.x += more.x, sum.y += more.y, sum.z += more.z, sum.w += more.w;
}

// Sums of the runs of a stretch, in the order of the keys: each to its row of `table` when the next begins. Addresses
// in shared memory: generic ones would be worked out anew for every run.
template <int kLanes>
class RunSums {
 public:
  __device__ __forceinline__ RunSums(uint32_t table, int32_t code, uint32_t to)
      : table_(table), to_(to), code_(code), sum_(make_float4(0.0f, 0.0f, 0.0f, 0.0f)) {}

  __device__ __forceinline__ void take(int32_t code, const float4& value) {
    if (code != code_) {
      finish();
      sum_ = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
      code_ = code;
      to_ = table_ + static_cast<uint32_t>(code * kLanes * 16);
    }
    add(sum_, value);
  }
  __device__ __forceinline__ void finish() const { store_shared(to_, sum_); }

 private:
  uint32_t table_, to_;
  int32_t code_;
  float4 sum_;
};

// A group's stretch of the keys of one hash, `left` of them, which begins at number `at` of all lists: sums of runs to
// `table`; of the run that began before, if one did, to `part`, and its code to `head`. `columns` is where this lane's
// columns of the head's first value are.
template <class Element, int kColumns, bool kAligned>
__device__ __forceinline__ void add_stretch(const TableTask& task, int64_t at, int32_t left, bool first_of_list,
                                            const Element* columns, uint32_t table, uint32_t part, int32_t* head) {
  constexpr int kLanes = TableShape<kColumns>::kLanes, kLoads = 4;
  static_assert(kStretchStep % kLoads == 0, "stretches begin where a load may");
  const int32_t code = task.key_codes[at];
  const bool begun = !first_of_list && task.key_codes[at - 1] == code;
  if (begun && thread_of_block() % kLanes == 0) *head = code;
  RunSums<kLanes> sums(table, code, begun ? part : table + static_cast<uint32_t>(code * kLanes * 16));
  const auto take = [&](auto full) {
    // Lists lie on 16 bytes, and so do stretches; what is beyond the last is loaded and not used.
    const uint2 codes = *reinterpret_cast<const uint2*>(task.key_codes + at);
    const int4 keys = *reinterpret_cast<const int4*>(task.order + at);
    const uint32_t two_codes[kLoads / 2] = {codes.x, codes.y};
    // Without signs a key's address takes two instructions.
    const uint32_t key[kLoads] = {static_cast<uint32_t>(keys.x), static_cast<uint32_t>(keys.y),
                                  static_cast<uint32_t>(keys.z), static_cast<uint32_t>(keys.w)};
    Quad<Element> value[kLoads];
#pragma unroll
    for (int i = 0; i < kLoads; ++i)
      if (full.value || i < left)
        value[i] = load_quad<kAligned>(reinterpret_cast<const Element*>(
            reinterpret_cast<const unsigned char*>(columns) + uint64_t{key[i]} * task.value_row_bytes));
#pragma unroll
    for (int i = 0; i < kLoads; ++i)
      if (full.value || i < left)
        sums.take(static_cast<int32_t>(two_codes[i / 2] >> 16 * (i % 2) & 0xffff), value[i].numbers());
  };
#pragma unroll 1
  for (; left >= kLoads; left -= kLoads, at += kLoads) take(std::true_type{});
  if (left > 0) take(std::false_type{});
  sums.finish();
}

// Every query adds up its rows of `count` tables, hash after hash, after what it has already unless it begins `anew`.
// Compiled for every count: the loads of one query are then on their way together.
template <class Shape, int kCount>
__device__ __forceinline__ void read_tables(int count, const TableTask& task, const uint16_t* codes,
                                            const float4* tables, float4* sums, bool anew) {
  if constexpr (kCount > 1) {
    if (count < kCount) return read_tables<Shape, kCount - 1>(count, task, codes, tables, sums, anew);
  }
  const int table_quads = task.code_count * Shape::kLanes, lane = thread_of_block() % Shape::kLanes;
#pragma unroll 1
  for (int64_t query = thread_of_block() / Shape::kLanes; query < task.tokens; query += Shape::kGroups) {
    int32_t code[kCount];
#pragma unroll
    for (int at = 0; at < kCount; ++at) code[at] = codes[at * task.stride + query];
    float4* const to = sums + query * Shape::kLanes + lane;
    float4 sum = anew ? make_float4(0.0f, 0.0f, 0.0f, 0.0f) : *to;
#pragma unroll
    for (int at = 0; at < kCount; ++at) add(sum, tables[at * table_quads + code[at] * Shape::kLanes + lane]);
    *to = sum;
  }
}

template <class Element, int kColumns, bool kAligned>
__global__ void __launch_bounds__(TableShape<kColumns>::kThreads, 1)
    sum_tables(const __grid_constant__ TableTask task) {
  using Shape = TableShape<kColumns>;
  LAT_SHARED_MEMORY(shared);
  float4* const parts = reinterpret_cast<float4*>(shared);  // of each thread
  int32_t* const heads = reinterpret_cast<int32_t*>(parts + Shape::kThreads);
  float4* const tables = reinterpret_cast<float4*>(heads + Shape::kGroups);
  const int table_quads = task.code_count * Shape::kLanes;
  // Asked for anew in every step: registers are few.
  const auto lane = [] { return thread_of_block() % Shape::kLanes; };
  const auto group = [] { return thread_of_block() / Shape::kLanes; };

  int64_t block = task.first_block + blockIdx.x;
  const int32_t slice = static_cast<int32_t>(block % task.slices);
  block /= task.slices;
  const int32_t share = static_cast<int32_t>(block % task.shares);
  const int64_t head = block / task.shares;
  const int32_t first_hash = share * task.num_hash / task.shares;
  const int32_t last_hash = (share + 1) * task.num_hash / task.shares;
  const int64_t first_column = (head % task.num_heads * task.slices + slice) * kColumns;
  const Element* const columns = row_of<const Element>(task.value, head / task.num_heads, 0, first_column);
  float4* const sums = reinterpret_cast<float4*>(task.sums) +
                       ((share * task.heads + head) * task.slices + slice) * task.tokens * Shape::kLanes;

#pragma unroll 1
  for (int32_t hash = first_hash; hash < last_hash; hash += task.most_tables) {
    const int count = last_hash - hash < task.most_tables ? last_hash - hash : task.most_tables;
    const int64_t list = head * task.num_hash + hash;
    const int groups = Shape::kGroups / count;  // of a table
    for (int at = thread_of_block(); at < count * table_quads; at += Shape::kThreads)
      tables[at] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (thread_of_block() < Shape::kGroups) heads[thread_of_block()] = kNoHead;
    __syncthreads();

    const int table = group() / groups;
    if (table < count) {
      const Stretch stretch = stretch_of(task.kept[list + table], groups, group() - table * groups);
      if (stretch.first < stretch.last)
        add_stretch<Element, kColumns, kAligned>(
            task, (list + table) * task.stride + stretch.first, static_cast<int32_t>(stretch.last - stretch.first),
            stretch.first == 0, columns + 4 * lane(), shared_address(tables + table * table_quads + lane()),
            shared_address(parts + thread_of_block()), heads + group());
    }
    __syncthreads();
    if (adds_up_heads(heads, group())) {
      const int32_t run = heads[group()];
      float4* const row = tables + group() / groups * table_quads + run * Shape::kLanes + lane();
      float4 sum = *row;
      // The first group of the next table has no head.
      for (int other = group(); other < Shape::kGroups && heads[other] == run; ++other)
        add(sum, parts[other * Shape::kLanes + lane()]);
      *row = sum;
    }
    __syncthreads();

    const uint16_t* const codes = task.query_codes + list * task.stride;
    read_tables<Shape, Shape::kMostTables>(count, task, codes, tables, sums, hash == first_hash);
    __syncthreads();  // no thread reads these tables any more
  }
}

struct FinishTask {
  const float* sums;  // as TableTask has it
  const int32_t* attention_mask;
  lat_rows output;
  int64_t first_block, rows;  // B * H * N, rows of a head
  int32_t tokens, num_heads, slices, shares;
  float num_hash;
  bool aligned;
};

constexpr int kFinishThreads = 256;
constexpr float kSmallestNorm = 1e-12f;  // of torch.nn.functional.normalize

// D / 4 lanes a row of a head.
template <class Element, int kHeadSize>
__global__ void __launch_bounds__(kFinishThreads, 4) finish_rows(const __grid_constant__ FinishTask task) {
  constexpr int kLanes = kHeadSize / 4, kRows = kFinishThreads / kLanes;
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int64_t row = (task.first_block + blockIdx.x) * kRows + threadIdx.x / kLanes;
  const bool there = row < task.rows;
  const int64_t head = there ? row / task.tokens : 0, token = there ? row % task.tokens : 0;
  const int64_t batch = head / task.num_heads;
  const bool padding = task.attention_mask[batch * task.tokens + token] == LAT_PADDING;
  const int lanes_of_slice = kLanes / task.slices;
  const float4* const sums = reinterpret_cast<const float4*>(task.sums) +
                             ((head * task.slices + lane / lanes_of_slice) * task.tokens + token) * lanes_of_slice +
                             lane % lanes_of_slice;
  float4 sum = sums[0];
  for (int share = 1; share < task.shares; ++share) add(sum, sums[share * task.rows * kLanes]);
  sum.x /= task.num_hash, sum.y /= task.num_hash, sum.z /= task.num_hash, sum.w /= task.num_hash;
  float squares = sum.x * sum.x + sum.y * sum.y + sum.z * sum.z + sum.w * sum.w;
#pragma unroll
  for (int step = 1; step < kLanes; step *= 2) squares += __shfl_xor_sync(0xffffffff, squares, step);
  if (!there) return;
  const float norm = sqrtf(squares), divisor = norm > kSmallestNorm ? norm : kSmallestNorm;
  Element element[4];
  element[0] = from_float<Element>(padding ? 0.0f : sum.x / divisor);
  element[1] = from_float<Element>(padding ? 0.0f : sum.y / divisor);
  element[2] = from_float<Element>(padding ? 0.0f : sum.z / divisor);
  element[3] = from_float<Element>(padding ? 0.0f : sum.w / divisor);
  Element* const to = row_of<Element>(task.output, batch, token, head % task.num_heads * kHeadSize + lane * 4);
  if (task.aligned) {
    Quad<Element> quad;
    memcpy(&quad.bits, element, sizeof element);
    *reinterpret_cast<decltype(quad.bits)*>(to) = quad.bits;
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) to[i] = element[i];
  }
}

template <class Element, int kColumns>
void launch_tables(TableTask task, int shared_bytes, cudaStream_t stream, lat_status& status) {
  using Shape = TableShape<kColumns>;
  const int table_bytes = Shape::table_bytes(task.code_count);
  const int fit = (shared_bytes - Shape::kPartBytes) / table_bytes;  // at least one: 99 KiB hold it
  task.most_tables = fit < 1 ? 1 : fit < Shape::kMostTables ? fit : Shape::kMostTables;
  const int32_t most_of_share = (task.num_hash + task.shares - 1) / task.shares;
  if (task.most_tables > most_of_share) task.most_tables = most_of_share;
  task.value_row_bytes = static_cast<uint64_t>(task.value.row_stride) * sizeof(Element);
  const bool aligned = lies_on_16_bytes(task.value, sizeof(Element));
  launch_all("tables", aligned ? sum_tables<Element, kColumns, true> : sum_tables<Element, kColumns, false>, task,
             task.heads * task.shares * task.slices, Shape::kThreads,
             Shape::kPartBytes + task.most_tables * table_bytes, stream, status);
}

template <class Element, int kHeadSize>
void launch_finish(FinishTask task, cudaStream_t stream, lat_status& status) {
  constexpr int kRows = kFinishThreads / (kHeadSize / 4);
  launch_all("rows", finish_rows<Element, kHeadSize>, task, (task.rows + kRows - 1) / kRows, kFinishThreads, 0, stream,
             status);
}

}  // namespace lat
