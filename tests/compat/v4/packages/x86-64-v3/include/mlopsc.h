/* mlopsc C ABI, version 1: the descriptor that every compiled model exports.
 *
 * C99, no allocation: any number of threads may run one model, each with its own arena.
 * docs/c-abi.md is the specification.
 */
#ifndef MLOPSC_H
#define MLOPSC_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MLOPSC_ABI_VERSION 1u

/* Element types: the codes of ONNX's TensorProto.DataType. Floats of 16 and fewer bits are held as
 * unsigned integers of their width; elements of 4 and 2 bits take the low bits of one
 * byte each. */
#define MLOPSC_FLOAT32 1
#define MLOPSC_UINT8 2
#define MLOPSC_INT8 3
#define MLOPSC_UINT16 4
#define MLOPSC_INT16 5
#define MLOPSC_INT32 6
#define MLOPSC_INT64 7
#define MLOPSC_BOOL 9
#define MLOPSC_FLOAT16 10
#define MLOPSC_FLOAT64 11
#define MLOPSC_UINT32 12
#define MLOPSC_UINT64 13
#define MLOPSC_BFLOAT16 16
#define MLOPSC_FLOAT8E4M3FN 17
#define MLOPSC_FLOAT8E4M3FNUZ 18
#define MLOPSC_FLOAT8E5M2 19
#define MLOPSC_FLOAT8E5M2FNUZ 20
#define MLOPSC_UINT4 21
#define MLOPSC_INT4 22
#define MLOPSC_FLOAT4E2M1 23
#define MLOPSC_FLOAT8E8M0 24
#define MLOPSC_UINT2 25
#define MLOPSC_INT2 26

/* What run() returns. */
#define MLOPSC_OK 0
#define MLOPSC_ERROR_NULL 1      /* an input, output or needed arena is NULL */
#define MLOPSC_ERROR_ALIGNMENT 2 /* the arena is not aligned to arena_align, or a buffer to its type */
#define MLOPSC_ERROR_PLACE 3     /* an input or output is not at its offset in the arena */

/* One input or output: a dense row-major array, little-endian. */
typedef struct mlopsc_tensor {
  const char *name;
  const int64_t *shape; /* rank sizes */
  uint64_t bytes;
  int32_t dtype; /* MLOPSC_FLOAT32, ... */
  int32_t rank;
  float scale; /* of a quantised tensor: real = scale * (stored - zero_point); 0 if not quantised */
  int32_t zero_point;
} mlopsc_tensor;

typedef struct mlopsc_model {
  uint32_t abi_version; /* MLOPSC_ABI_VERSION */
  uint32_t struct_bytes; /* sizeof(mlopsc_model): later versions only append */
  const char *name;
  const char *version;
  const char *target;
  const char *bundle; /* digest of the bundle it was built from, "sha256:..." */
  const mlopsc_tensor *inputs;
  const mlopsc_tensor *outputs;
  uint32_t input_count;
  uint32_t output_count;
  uint64_t arena_bytes; /* scratch memory that run() needs; may be 0 */
  uint64_t arena_align;
  /* Computes the outputs from the inputs. Outputs and the arena must not overlap anything else;
   * inputs may overlap inputs. */
  int32_t (*run)(const void *const *inputs, void *const *outputs, void *arena);
  /* NULL, or for a model whose inputs and outputs lie in the arena their offsets in it: run() takes
   * no other pointers, and leaves garbage in the inputs. */
  const uint64_t *input_offsets;
  const uint64_t *output_offsets;
} mlopsc_model;

/* The only model of a library, or of a program that links exactly one. With several, call each
 * model's own <name>_model(). */
const mlopsc_model *mlopsc_model_get(void);

/* The rest concerns libraries that compute on several threads: those whose header says
 * <NAME>_THREADS 1. */
#define MLOPSC_MAX_THREADS 64

/* Sets how many threads a call uses, the calling one included; results do not depend on it. Larger
 * numbers than MLOPSC_MAX_THREADS count as that, negative ones as 1. 0 is the default: what the
 * environment variable MLOPSC_NUM_THREADS says, else the processors the calling thread may run on.
 * Returns the number. It holds for all models that are linked together, from their next call on. */
int32_t mlopsc_set_threads(int32_t threads);

/* What the libraries hand the tasks of a kernel to. Link a definition of your own before the
 * library, together with mlopsc_set_threads, to run them on threads of your own: it must call
 * run(args, begin, end) such that every task from 0 to tasks - 1 is in exactly one of the ranges,
 * and return when all calls have. A range of fewer than grain tasks is not worth a thread. */
typedef void (*mlopsc_task)(void *const *args, int32_t begin, int32_t end);
void mlopsc_parallel(mlopsc_task run, void *const *args, int32_t tasks, int32_t grain);

#ifdef __cplusplus
}
#endif

#endif
