/* lat_runner: a model of lat-export in onnxruntime, on a machine without Python. Plain C.
 *
 * A runner is made from a folder that `lat-export bundle --format edge` wrote: model, onnxruntime's library, native
 * ops, tokenizer. It takes tensors and gives tensors, or takes a request in JSON and gives the answer of the task in
 * JSON.
 *
 *     lat_error error;
 *     lat_runner* runner = NULL;
 *     if (lat_runner_create("folder", NULL, &runner, &error) != LAT_OK) { puts(error.what); return 1; }
 *     char* answer = NULL;
 *     if (lat_runner_answer(runner, "{\"text\": \"A document.\"}", &answer, &error) == LAT_OK) puts(answer);
 *     lat_string_free(answer);
 *     lat_runner_destroy(runner);
 *
 * Threads: any number of threads may call any function with the same runner at the same time; only lat_runner_destroy
 * must be the last call. A result belongs to whoever got it, and outlives its runner's other results, not the runner.
 * Nothing is thrown across this interface, and no signal handler, locale or environment variable is changed. The
 * libraries of a folder stay loaded until the process ends.
 */
#ifndef LAT_RUNNER_H_
#define LAT_RUNNER_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define LAT_RUNNER_ABI_VERSION 1
#define LAT_API __attribute__((visibility("default")))

/* Also the exit codes of lat_edge. */
typedef enum lat_status {
  LAT_OK = 0,
  LAT_FAILED = 1,    /* onnxruntime could not do it */
  LAT_BAD_INPUT = 2, /* an argument, a request, a tensor or a file of the folder is wrong */
  LAT_MISSING = 3,   /* a library or a file is not there, or not for this processor */
  LAT_BUG = 70       /* of this library */
} lat_status;

#define LAT_TEXT 512

/* Filled where a function does not give LAT_OK; texts end with a zero and are empty where there is nothing to say. */
typedef struct lat_error {
  lat_status status;
  char what[LAT_TEXT];
  char got[LAT_TEXT];
  char expected[LAT_TEXT];
  char hint[LAT_TEXT];
} lat_error;

typedef enum lat_dtype { LAT_FLOAT32 = 1, LAT_FLOAT16 = 2, LAT_INT64 = 3 } lat_dtype;

typedef struct lat_options {
  int32_t threads; /* of one run; 0: one a core */
  int32_t bodies;  /* not 0: native ops are left alone, and every lat node runs as its ONNX function body */
} lat_options;

typedef struct lat_runner lat_runner;
typedef struct lat_result lat_result;

/* An input or output of the model. What is pointed to lives as long as the runner. */
typedef struct lat_port {
  const char* name;
  int32_t dtype; /* a lat_dtype */
  size_t rank;
  const int64_t* dims;          /* -1 where it is dynamic */
  const char* const* dim_names; /* of the dynamic ones; one name has one size in a run. NULL for fixed ones */
  int64_t below;                /* whole numbers of this input are at least 0 and below this; 0 for no bound */
} lat_port;

/* What the model is and what it takes. What is pointed to lives as long as the runner. */
typedef struct lat_facts {
  const char* family;
  const char* task; /* "text-classification", ...: as transformers' pipelines are called */
  const char* precision;
  const char* onnxruntime; /* version of its library */
  size_t input_count;
  size_t output_count;
  int64_t max_tokens;  /* longest sequence */
  int64_t multiple_of; /* every sequence is a multiple of this: pad with attention_mask 0 */
  int64_t pad_token_id;
  int64_t first_position; /* position id of the first token */
  size_t label_count;
  const char* const* labels; /* by index */
  int32_t native_ops;        /* 1: the library of native ops is loaded; 0: function bodies run */
  int32_t takes_text;        /* 0: requests need "ids" */
  const char* why_no_text;   /* empty where text is taken */
} lat_facts;

/* Rows last, no gaps. */
typedef struct lat_tensor {
  const char* name;
  int32_t dtype; /* a lat_dtype */
  size_t rank;
  const int64_t* dims;
  const void* data;
  size_t bytes;
} lat_tensor;

/* LAT_RUNNER_ABI_VERSION of the library. */
LAT_API int32_t lat_runner_abi_version(void);

/* `options` may be NULL, and `error` of every function too. Takes seconds for a large model. */
LAT_API lat_status lat_runner_create(const char* folder, const lat_options* options, lat_runner** out,
                                     lat_error* error);
LAT_API void lat_runner_destroy(lat_runner* runner); /* NULL is let through */

LAT_API lat_status lat_runner_facts(const lat_runner* runner, lat_facts* out, lat_error* error);
LAT_API lat_status lat_runner_input(const lat_runner* runner, size_t index, lat_port* out, lat_error* error);
LAT_API lat_status lat_runner_output(const lat_runner* runner, size_t index, lat_port* out, lat_error* error);

/* Every input of the model by name, in any order, checked before the model sees it. `*out` is to be freed. */
LAT_API lat_status lat_runner_run(const lat_runner* runner, const lat_tensor* inputs, size_t count, lat_result** out,
                                  lat_error* error);
LAT_API size_t lat_result_count(const lat_result* result);
/* Outputs in the model's order, NULL beyond them; valid until the result is freed. */
LAT_API const lat_tensor* lat_result_at(const lat_result* result, size_t index);
LAT_API void lat_result_free(lat_result* result); /* NULL is let through */

/* A request in JSON (UTF-8, ends with a zero) to the answer of the task, as `lat-export run --json` prints it.
 *
 *   {"text": "..."}                               and "question": "..." for question-answering, "choices": ["...", ...]
 *                                                 for multiple-choice, "top_k": how many answers to rank (5)
 *   {"ids": [0, 31414, 2]}                        tokens, with the tokenizer's special ones, in place of text;
 *                                                 [[...], [...]], a row for each choice, for multiple-choice
 *   "type_ids", "global_attention_mask"           with "ids", of the same form; left out: zeros, the task's own default
 *
 * An answer to ids has token numbers where that to text has characters and words. `*answer` is to be freed. */
LAT_API lat_status lat_runner_answer(const lat_runner* runner, const char* request, char** answer, lat_error* error);

/* {"text": "..."} or {"text": "...", "pair": "..."} to tokens, as the checkpoint's tokenizer has them: {"ids",
 * "type_ids", "offsets": [[first, end], ...] in characters, "special": 1 for tokens that the tokenizer adds}.
 * `*encoding` is to be freed. */
LAT_API lat_status lat_runner_encode(const lat_runner* runner, const char* request, char** encoding, lat_error* error);
LAT_API void lat_string_free(char* text); /* NULL is let through */

#ifdef __cplusplus
}
#endif
#endif
