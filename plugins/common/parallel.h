// Pieces of work on the caller's threads, each with scratch of its own.
#pragma once

#include "common/kernel_abi.h"
#include "common/vector.h"

namespace lat::LAT_ARCH {

inline constexpr int64_t kMostWorkers = 256;

// Workers for a call: each takes the next piece until none is left. What a piece computes depends on its index alone,
// so the number of workers never shows in the result.
inline int64_t workers_for(const lat_parallel& parallel, int64_t pieces) {
  if (parallel.threads <= 1) return 1;
  return smaller_of(smaller_of(parallel.threads, kMostWorkers), pieces > 0 ? pieces : 1);
}

// Runs `piece(index, scratch)` for every index below `pieces`; `scratch` has `floats` floats for each worker.
template <class Piece>
inline void for_each_piece(const lat_parallel& parallel, int64_t pieces, float* scratch, int64_t floats,
                           const Piece& piece) {
  struct Work {
    const Piece* piece;
    int64_t pieces, floats, next;
    float* scratch;
  } work{&piece, pieces, floats, 0, scratch};
  const lat_task task = [](void* context, int64_t worker) {
    Work& shared = *static_cast<Work*>(context);
    float* own = shared.scratch + worker * shared.floats;
    for (;;) {
      const int64_t index = __atomic_fetch_add(&shared.next, 1, __ATOMIC_RELAXED);
      if (index >= shared.pieces) return;
      (*shared.piece)(index, own);
    }
  };
  const int64_t workers = workers_for(parallel, pieces);
  if (workers == 1) {
    task(&work, 0);
  } else {
    parallel.run(parallel.pool, workers, task, &work);
  }
}

}  // namespace lat::LAT_ARCH
