/* What every kernel of this project shares at its C ABI: element types, a status, and a way to run work in parallel.
 *
 * A kernel knows no ONNX Runtime, no TensorRT and no PyTorch. Its arguments are a plain struct of sizes and pointers;
 * nothing is thrown across the ABI, nothing is owned by it, and every pointer may be read by any number of threads.
 */
#ifndef LAT_KERNEL_ABI_H
#define LAT_KERNEL_ABI_H

#include <stdint.h>

/* Grows with every change of a struct or of an entry's meaning; what a library was built with is lat_abi_version(). */
#define LAT_ABI_VERSION 2

#if defined(_WIN32)
#define LAT_EXPORT __declspec(dllexport)
#else
#define LAT_EXPORT __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Storage of activations and weights; all sums are kept in float32. */
typedef enum lat_dtype { LAT_FLOAT32 = 0, LAT_FLOAT16 = 1, LAT_BFLOAT16 = 2 } lat_dtype;

typedef enum lat_code {
  LAT_OK = 0,
  LAT_BAD_ARGUMENT = 1, /* a size, pointer or attribute that the op's contract forbids; nothing was written */
  LAT_NO_MEMORY = 2,
  LAT_UNSUPPORTED = 3, /* sound, but not by these kernels or on this device: the CUDA kernels' head sizes, say */
  LAT_DEVICE_ERROR = 4 /* CUDA said no; the message holds its words */
} lat_code;

typedef struct lat_status {
  int32_t code;      /* lat_code */
  char message[252]; /* what, got, expected; empty where code is LAT_OK; always ends with 0 */
} lat_status;

/* One piece of work: `index` counts from 0. It must not throw. */
typedef void (*lat_task)(void* context, int64_t index);

/* Runs `task` for every index below `count`, in any order and on any threads, and returns when all are done. */
typedef struct lat_parallel {
  void (*run)(void* pool, int64_t count, lat_task task, void* context);
  void* pool;
  int32_t threads; /* how many may run at once: so many get scratch; what is computed does not hang on it */
} lat_parallel;

/* Rows of activations [B, N, E], the E numbers of a row side by side; strides in elements. */
typedef struct lat_rows {
  void* data;
  int64_t batch_stride;
  int64_t row_stride;
} lat_rows;

/* Token kinds in an attention mask, int32. */
enum { LAT_PADDING = 0, LAT_TOKEN = 1, LAT_GLOBAL = 2 };

/* Every op has one entry `lat_<op>_cpu(args, parallel, status)`. `parallel` may be null: then the caller's thread does
 * all. Of a null `status` nothing can be told, so nothing is done. */

/* Where an op has a CUDA kernel, liblat_cuda holds, for the same `args` with every pointer in it one of the device,
 *
 *     int64_t lat_<op>_cuda_workspace(args, status)
 *         bytes of workspace; hangs on sizes and attributes alone, and looks at no pointer; -1 and a status where they
 *         are bad or not supported
 *     void lat_<op>_cuda(args, workspace, stream, status)
 *         puts the op's kernels on `stream`, a cudaStream_t, and returns: no allocation, no wait, nothing of the device
 *         is read on the host, so a CUDA graph may capture it. `workspace` is LAT_WORKSPACE_ALIGNMENT aligned, starts
 *         as anything, and is the call's own until the stream has passed it. Two calls with the same inputs give the
 *         same bits.
 *
 * Values of a mask on the device cannot be refused: one that is no token kind counts as padding. */
enum { LAT_WORKSPACE_ALIGNMENT = 256 };

/* LAT_ABI_VERSION of this library. */
LAT_EXPORT int32_t lat_abi_version(void);

/* The instruction set that every kernel uses here: "scalar", "avx2", "avx512" or "neon"; "unknown" where LAT_CPU_ARCH
 * in the environment names none of this build, which every entry refuses. It is read once. */
LAT_EXPORT const char* lat_cpu_arch_name(void);

#ifdef __cplusplus
}
#endif
#endif
