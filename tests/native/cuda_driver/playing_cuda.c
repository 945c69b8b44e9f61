/* Plays NVIDIA's driver to lat_export.native.cuda_driver: THIS IS NO GPU, and says nothing of what one would do.
 *
 *     cc -shared -fPIC playing_cuda.c -o libcuda.so.1
 *
 * The functions have the driver's own names and types (cuda.h, CUDA 13). Memory of the device is the host's; work takes
 * a time that is written down here, on a clock that only work moves. What the real driver forbids is an error here too:
 * a call before there is a context, a time between events that are not over, waiting inside of a capture.
 *
 * PLAYED_CUDA_LOG: every call goes to the file of that name, with the process' id at its end. PLAYED_CUDA_MEMORY: bytes
 * of the device. PLAYED_CUDA_NONE: a driver without a GPU.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
  CUDA_SUCCESS = 0,
  INVALID_VALUE = 1,
  OUT_OF_MEMORY = 2,
  NOT_INITIALIZED = 3,
  NO_DEVICE = 100,
  INVALID_CONTEXT = 201,
  INVALID_HANDLE = 400,
  NOT_READY = 600,
  CAPTURE_UNSUPPORTED = 900,
  CAPTURE_INVALIDATED = 901
};
enum { IDLE, CAPTURING, BROKEN };
enum { COPY_US = 7, BYTES_A_US = 1024 };

typedef struct {
  int state, works;
  double work_us;
} Stream;
typedef struct {
  double at_us;
  int recorded, over;
  Stream* stream;
} Event;
typedef struct {
  double work_us;
  int works, ready;
} Graph;

static int started, context_is_current;
static double now_us;
static size_t used, total = (size_t)1 << 30;
static Event* events[256];
static int event_count;

void played_log(const char* format, ...) {
  const char* base = getenv("PLAYED_CUDA_LOG");
  if (!base) return;
  char path[4096];
  snprintf(path, sizeof path, "%s.%d", base, (int)getpid());
  FILE* file = fopen(path, "a");
  if (!file) return;
  va_list arguments;
  va_start(arguments, format);
  vfprintf(file, format, arguments);
  va_end(arguments);
  fputc('\n', file);
  fclose(file);
}

/* An engine puts work on a stream. Nonzero where the stream is broken. */
int played_work(Stream* stream, double us) {
  if (stream->state == BROKEN) return CAPTURE_INVALIDATED;
  if (stream->state == CAPTURING) {
    stream->work_us += us;
    ++stream->works;
  } else {
    now_us += us;
  }
  return CUDA_SUCCESS;
}
int played_is_capturing(Stream* stream) { return stream->state == CAPTURING; }
void played_break(Stream* stream) {
  if (stream->state == CAPTURING) stream->state = BROKEN;
}

#define DEMAND_CONTEXT \
  if (!context_is_current) return INVALID_CONTEXT

int cuInit(unsigned flags) {
  if (getenv("PLAYED_CUDA_NONE")) return NO_DEVICE;
  if (getenv("PLAYED_CUDA_MEMORY")) total = strtoull(getenv("PLAYED_CUDA_MEMORY"), NULL, 10);
  started = 1;
  return flags ? INVALID_VALUE : CUDA_SUCCESS;
}
int cuDeviceGetCount(int* count) {
  *count = 1;
  return started ? CUDA_SUCCESS : NOT_INITIALIZED;
}
int cuDeviceGet(int* device, int ordinal) {
  *device = 17;
  return !started ? NOT_INITIALIZED : ordinal ? INVALID_VALUE : CUDA_SUCCESS;
}
int cuDeviceGetName(char* name, int size, int device) {
  snprintf(name, (size_t)size, "a played GPU");
  return device == 17 ? CUDA_SUCCESS : INVALID_VALUE;
}
int cuDeviceGetAttribute(int* value, int attribute, int device) {
  *value = attribute == 75 ? 9 : 0;
  return device == 17 ? CUDA_SUCCESS : INVALID_VALUE;
}
static int the_context;
int cuDevicePrimaryCtxRetain(void** context, int device) {
  *context = &the_context;
  return device == 17 ? CUDA_SUCCESS : INVALID_VALUE;
}
int cuCtxSetCurrent(void* context) {
  context_is_current = context == &the_context;
  return context_is_current ? CUDA_SUCCESS : INVALID_CONTEXT;
}
int cuGetErrorName(int error, const char** text) {
  *text = error == OUT_OF_MEMORY          ? "CUDA_ERROR_OUT_OF_MEMORY"
          : error == NOT_READY            ? "CUDA_ERROR_NOT_READY"
          : error == CAPTURE_UNSUPPORTED  ? "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"
          : error == CAPTURE_INVALIDATED  ? "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"
          : error == NO_DEVICE            ? "CUDA_ERROR_NO_DEVICE"
                                          : NULL;
  return *text ? CUDA_SUCCESS : INVALID_VALUE;
}
int cuGetErrorString(int error, const char** text) {
  *text = error == OUT_OF_MEMORY ? "out of memory" : "played";
  return CUDA_SUCCESS;
}

int cuMemGetInfo_v2(size_t* free_bytes, size_t* all) {
  DEMAND_CONTEXT;
  *free_bytes = total - used;
  *all = total;
  return CUDA_SUCCESS;
}
int cuMemAlloc_v2(uint64_t* address, size_t size) {
  DEMAND_CONTEXT;
  if (size > total - used) return OUT_OF_MEMORY;
  used += size;
  *address = (uint64_t)(uintptr_t)calloc(1, size);
  played_log("allocate %zu", size);
  return CUDA_SUCCESS;
}
int cuMemHostAlloc(void** memory, size_t size, unsigned flags) {
  DEMAND_CONTEXT;
  *memory = malloc(size);
  return flags ? INVALID_VALUE : CUDA_SUCCESS;
}
static int copy(void* to, const void* from, size_t size, Stream* stream, const char* name) {
  DEMAND_CONTEXT;
  memcpy(to, from, size);
  played_log("%s %zu", name, size);
  return played_work(stream, COPY_US + (double)size / BYTES_A_US);
}
int cuMemcpyHtoDAsync_v2(uint64_t to, const void* from, size_t size, Stream* stream) {
  return copy((void*)(uintptr_t)to, from, size, stream, "copy_in");
}
int cuMemcpyDtoHAsync_v2(void* to, uint64_t from, size_t size, Stream* stream) {
  return copy(to, (const void*)(uintptr_t)from, size, stream, "copy_out");
}

int cuStreamCreate(Stream** stream, unsigned flags) {
  DEMAND_CONTEXT;
  *stream = calloc(1, sizeof(Stream));
  return flags == 1 ? CUDA_SUCCESS : INVALID_VALUE;
}
int cuStreamSynchronize(Stream* stream) {
  DEMAND_CONTEXT;
  played_log("synchronise");
  if (stream->state != IDLE) {
    stream->state = BROKEN;
    return CAPTURE_UNSUPPORTED;
  }
  for (int i = 0; i < event_count; ++i)
    if (events[i]->stream == stream) events[i]->over = events[i]->recorded;
  return CUDA_SUCCESS;
}
int cuEventCreate(Event** event, unsigned flags) {
  DEMAND_CONTEXT;
  *event = events[event_count++] = calloc(1, sizeof(Event));
  return flags ? INVALID_VALUE : CUDA_SUCCESS;
}
static int number_of(const Event* event) {
  for (int i = 0; i < event_count; ++i)
    if (events[i] == event) return i;
  return -1;
}
int cuEventRecord(Event* event, Stream* stream) {
  if (number_of(event) < 0) return INVALID_HANDLE;
  played_log("record %d", number_of(event));
  event->at_us = now_us;
  event->stream = stream;
  event->recorded = 1;
  event->over = 0;
  return stream->state == IDLE ? CUDA_SUCCESS : CAPTURE_UNSUPPORTED;
}
int cuEventElapsedTime(float* milliseconds, Event* start, Event* end) {
  played_log("elapsed %d %d", number_of(start), number_of(end));
  if (number_of(start) < 0 || number_of(end) < 0) return INVALID_HANDLE;
  if (!start->over || !end->over) return NOT_READY;
  *milliseconds = (float)((end->at_us - start->at_us) / 1e3);
  return CUDA_SUCCESS;
}

int cuStreamBeginCapture_v2(Stream* stream, int mode) {
  played_log("begin capture");
  stream->state = CAPTURING;
  stream->work_us = stream->works = 0;
  return mode == 1 ? CUDA_SUCCESS : INVALID_VALUE;
}
int cuStreamEndCapture(Stream* stream, Graph** graph) {
  int state = stream->state;
  played_log("end capture");
  stream->state = IDLE;
  *graph = NULL;
  if (state != CAPTURING) return CAPTURE_INVALIDATED;
  *graph = calloc(1, sizeof(Graph));
  (*graph)->work_us = stream->work_us;
  (*graph)->works = stream->works;
  return CUDA_SUCCESS;
}
int cuGraphInstantiateWithFlags(Graph** ready, Graph* graph, unsigned long long flags) {
  *ready = calloc(1, sizeof(Graph));
  **ready = *graph;
  (*ready)->ready = 1;
  return flags || !graph->works ? INVALID_VALUE : CUDA_SUCCESS;
}
int cuGraphLaunch(Graph* graph, Stream* stream) {
  played_log("launch");
  return graph && graph->ready ? played_work(stream, graph->work_us) : INVALID_HANDLE;
}
