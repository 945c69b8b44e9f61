// What the test doubles of the CUDA kernels leave in the workspace, where the host finds it.
#pragma once

#include <cstddef>

struct Recording {
  char entry[64];
  void* workspace;
  void* stream;
  std::size_t args_bytes;
  alignas(16) unsigned char args[256];
};

// A stream on which the doubles fail, as if CUDA had said no.
inline void* failing_stream() { return reinterpret_cast<void*>(0xbad); }
