// Plays a CUDA device on the host, for tests of the kernels where there is no GPU: a block of threads at a time, each
// thread a fiber, in an order drawn at random, some warps faster than others. A barrier lets a fiber wait until all
// have come; what a warp does together exchanges numbers over such a barrier of 32. A block in which nothing moves any
// more is an error: threads that should have met a barrier did not. The build puts this file in front of every
// kernel_cuda.cu.
#pragma once

#include <cuda_runtime_api.h>
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <vector>

#undef __launch_bounds__
#define __launch_bounds__(...)
#undef __grid_constant__
#define __grid_constant__
#undef __shared__
#define __shared__ static
#undef __global__
#define __global__
#undef __device__
#define __device__
#undef __forceinline__
#define __forceinline__ inline

namespace lat::on_host {

constexpr int kWarpLanes = 32;

struct Barrier {
  int present = 0;
  uint64_t generation = 0;
};

// What lanes give each other; taken in turn, so that a fast lane does not write over what a slow one still reads.
struct Exchange {
  uint32_t given[2][kWarpLanes][8];
};

struct Fiber {
  ucontext_t context;  // where it begins; afterwards it goes on at `place`: a jump costs no system call
  jmp_buf place;
  bool begun;
  std::vector<unsigned char> stack;
  bool done = false;
  int turn = 0;
  std::vector<std::function<void()>> copies;  // asynchronous ones that are still under way
};

struct Device {
  unsigned thread = 0, block = 0;
  int threads = 0, alive = 0;
  std::vector<Fiber> fibers;
  std::vector<Barrier> warps;
  std::vector<Exchange> exchange;
  Barrier block_barrier;
  int votes[2] = {0, 0};
  std::vector<unsigned char> shared;
  jmp_buf scheduler;
  std::function<void()> kernel;
  std::mt19937 random{1};
  bool late_copies = false;  // at the wait for them, instead of at once
  uint64_t moves = 0;

  static Device& get() {
    static Device device;
    return device;
  }

  Fiber& self() { return fibers[thread]; }

  void yield() {
    const unsigned mine = thread;
    if (_setjmp(fibers[mine].place) == 0) _longjmp(scheduler, 1);
    thread = mine;
  }

  void meet(Barrier& barrier, int count) {
    ++moves;
    if (++barrier.present == count) {
      barrier.present = 0;
      ++barrier.generation;
      return;
    }
    for (const uint64_t before = barrier.generation; barrier.generation == before;) yield();
  }

  void meet_block() { meet(block_barrier, threads); }
  void meet_warp() { meet(warps[thread / kWarpLanes], kWarpLanes); }

  // Gives up to 8 words; the result is what all lanes gave.
  const uint32_t (&trade(const uint32_t* words, int count))[kWarpLanes][8] {
    Exchange& mine = exchange[thread / kWarpLanes];
    const int turn = self().turn;
    self().turn ^= 1;
    std::memcpy(mine.given[turn][thread % kWarpLanes], words, static_cast<std::size_t>(count) * 4);
    meet_warp();
    return mine.given[turn];
  }

  static void start() {
    Device& device = get();
    device.kernel();
    device.self().done = true;
    --device.alive;
    ++device.moves;
    _longjmp(device.scheduler, 1);
  }

  // In a frame of its own: what its caller holds must not change before the fiber jumps back.
  __attribute__((noinline)) void resume(Fiber& fiber) {
    if (_setjmp(scheduler) != 0) return;
    if (fiber.begun) _longjmp(fiber.place, 1);
    fiber.begun = true;
    setcontext(&fiber.context);
  }

  void run_block(int count, int shared_bytes) {
    threads = alive = count;
    fibers.resize(static_cast<std::size_t>(count));
    warps.assign(static_cast<std::size_t>((count + kWarpLanes - 1) / kWarpLanes), {});
    exchange.resize(warps.size());
    block_barrier = {};
    shared.assign(static_cast<std::size_t>(shared_bytes) + 256, 0xff);
    std::vector<unsigned> order;
    for (unsigned at = 0; at < fibers.size(); ++at) {
      Fiber& fiber = fibers[at];
      fiber.done = false;
      fiber.turn = 0;
      fiber.copies.clear();
      fiber.stack.resize(64 * 1024);
      getcontext(&fiber.context);
      fiber.context.uc_stack = {fiber.stack.data(), 0, fiber.stack.size()};
      fiber.context.uc_link = nullptr;
      makecontext(&fiber.context, &Device::start, 0);
      fiber.begun = false;
      order.push_back(at);
    }
    // Some warps take part in every round, others in few, and now and then one stands still until all others wait for
    // it: a barrier that is missing shows.
    std::vector<unsigned> rounds_of_turn;
    for (std::size_t warp = 0; warp < warps.size(); ++warp) rounds_of_turn.push_back(1u << random() % 4 * 2);
    int held = -1;
    for (bool all = false; alive > 0;) {
      std::shuffle(order.begin(), order.end(), random);
      if (held < 0 && random() % 16 == 0) held = static_cast<int>(random() % warps.size());
      std::vector<bool> turn;
      for (const unsigned rounds : rounds_of_turn) turn.push_back(all || random() % rounds == 0);
      const uint64_t before = moves;
      for (const unsigned at : order) {
        const unsigned warp = at / kWarpLanes;
        if (fibers[at].done || !turn[warp] || static_cast<int>(warp) == held) continue;
        thread = at;
        resume(fibers[at]);
      }
      if (all && moves == before && held >= 0) {
        held = -1;
      } else if (all && moves == before) {
        std::fprintf(stderr, "threads of a block wait for others that do not come\n");
        std::abort();
      }
      all = moves == before;
    }
  }
};

struct ThreadIndex {
  struct X {
    operator unsigned() const { return Device::get().thread; }
  } x;
};
struct BlockIndex {
  struct X {
    operator unsigned() const { return Device::get().block; }
  } x;
};

// On 256 bytes, as the device has it.
inline unsigned char* shared_memory() {
  unsigned char* const base = Device::get().shared.data();
  return base + (256 - reinterpret_cast<uintptr_t>(base) % 256) % 256;
}

template <class Value>
Value trade_one(Value value, int from_lane) {
  uint32_t words[2] = {};
  std::memcpy(words, &value, sizeof value);
  const auto& given = Device::get().trade(words, 2);
  std::memcpy(&value, given[from_lane], sizeof value);
  return value;
}

}  // namespace lat::on_host

static const lat::on_host::ThreadIndex threadIdx{};
static const lat::on_host::BlockIndex blockIdx{};

inline void __syncthreads() { lat::on_host::Device::get().meet_block(); }
inline void __syncwarp() { lat::on_host::Device::get().meet_warp(); }

inline int __syncthreads_or(int vote) {
  lat::on_host::Device& device = lat::on_host::Device::get();
  device.votes[0] |= vote;
  device.meet_block();
  const int all = device.votes[0];
  device.meet_block();
  device.votes[0] = 0;
  device.meet_block();
  return all;
}

template <class Value>
Value __shfl_sync(unsigned, Value value, int lane) {
  return lat::on_host::trade_one(value, lane & 31);
}
template <class Value>
Value __shfl_xor_sync(unsigned, Value value, int mask) {
  return lat::on_host::trade_one(value, static_cast<int>(threadIdx.x % 32) ^ mask);
}
inline unsigned __ballot_sync(unsigned, int vote) {
  const uint32_t word = vote != 0;
  const auto& given = lat::on_host::Device::get().trade(&word, 1);
  unsigned bits = 0;
  for (unsigned lane = 0; lane < 32; ++lane) bits |= given[lane][0] << lane;
  return bits;
}
inline unsigned __match_any_sync(unsigned, unsigned value) {
  const auto& given = lat::on_host::Device::get().trade(&value, 1);
  unsigned alike = 0;
  for (unsigned lane = 0; lane < 32; ++lane) alike |= static_cast<unsigned>(given[lane][0] == value) << lane;
  return alike;
}
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline float __fdividef(float a, float b) { return a / b; }
