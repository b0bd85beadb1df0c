/* digits 0 for x86-64-v3: generated; see mlopsc.h. */
#ifndef DIGITS_H
#define DIGITS_H

#include "mlopsc.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Scratch memory that a call needs; its contents need not survive between calls. */
#define DIGITS_ARENA_BYTES 12288
#define DIGITS_ARENA_ALIGN 32

/* Whether calls compute on several threads: mlopsc_set_threads is there then. */
#define DIGITS_THREADS 0

/* Number of elements of each buffer. */
#define DIGITS_INPUT_IMAGE_ELEMENTS 64
#define DIGITS_OUTPUT_PROBABILITIES_ELEMENTS 10

/* Runs the model once. Returns MLOPSC_OK or an error of mlopsc.h.
 *   input   image: uint8[1, 8, 8]
 *   output  probabilities: float32[1, 10]
 *   arena   DIGITS_ARENA_BYTES bytes aligned to DIGITS_ARENA_ALIGN
 * Outputs and the arena must not overlap anything else; inputs may overlap inputs. */
int32_t digits_run(const uint8_t *in_image, float *out_probabilities, void *arena);

/* The descriptor of this model, for programs that hold several. */
const mlopsc_model *digits_model(void);

#ifdef __cplusplus
}
#endif

#endif
