#include "common/scratch.h"

#include <cstdlib>

namespace lat {
namespace {

void* allocate(std::size_t bytes) {
  const std::size_t whole = (bytes + kScratchAlignment - 1) / kScratchAlignment * kScratchAlignment;
  return std::aligned_alloc(kScratchAlignment, whole == 0 ? kScratchAlignment : whole);
}

struct Block {
  void* data = nullptr;
  std::size_t bytes = 0;
  ~Block() { std::free(data); }
};

thread_local Block block;

}  // namespace

void* thread_scratch(std::size_t bytes) {
  if (block.bytes < bytes) {
    std::free(block.data);
    block.data = allocate(bytes);
    block.bytes = block.data == nullptr ? 0 : bytes;
  }
  return block.data;
}

CallMemory::CallMemory(std::size_t bytes) : data_(allocate(bytes)) {}

CallMemory::~CallMemory() { std::free(data_); }

}  // namespace lat
