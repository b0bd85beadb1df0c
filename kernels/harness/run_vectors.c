/* A program that runs a model on every set of inputs of "inputs.bin" and writes the outputs to the
 * file "outputs.bin". Built by the QEMU runner, for boards and for Linux processors alike. */
#include <stddef.h>
#include <stdint.h>

#include "mlopsc.h"
#include "run_vectors.h" /* VECTORS, INPUT_BYTES, OUTPUT_BYTES, ARENA_BYTES, ARENA_ALIGN, MAX_IO */

static const unsigned char inputs[] __attribute__((aligned(64))) = {
#embed "inputs.bin"
};
static unsigned char outputs[VECTORS * OUTPUT_BYTES + 1] __attribute__((aligned(64)));
static unsigned char arena[ARENA_BYTES + 1] __attribute__((aligned(ARENA_ALIGN)));

int harness_write_file(const char *name, const void *data, size_t bytes);

#if !defined(EXAMPLE_BARE)
#include <stdio.h>
int harness_write_file(const char *name, const void *data, size_t bytes) {
  FILE *file = fopen(name, "wb");
  return !file || fwrite(data, 1, bytes, file) != bytes || fclose(file) != 0;
}
#endif

/* Every tensor starts at a multiple of 64 bytes. */
static size_t padded(uint64_t bytes) { return (size_t)((bytes + 63u) & ~(uint64_t)63u); }

static void copy(unsigned char *to, const unsigned char *from, size_t bytes) {
  while (bytes--) *to++ = *from++;
}

/* Copies the inputs to where the model expects them, and points at its outputs. */
static void enter_arena(const mlopsc_model *model, const void **ins, void **outs) {
  for (uint32_t i = 0; i < model->input_count; ++i) {
    copy(arena + model->input_offsets[i], ins[i], (size_t)model->inputs[i].bytes);
    ins[i] = arena + model->input_offsets[i];
  }
  for (uint32_t i = 0; i < model->output_count; ++i) outs[i] = arena + model->output_offsets[i];
}

int main(void) {
  const mlopsc_model *model = mlopsc_model_get();
  const void *ins[MAX_IO];
  void *outs[MAX_IO];
  for (size_t i = 0; i < sizeof outputs; ++i) outputs[i] = 0xA5;
  for (size_t v = 0; v < VECTORS; ++v) {
    const unsigned char *from = inputs + v * INPUT_BYTES;
    unsigned char *to = outputs + v * OUTPUT_BYTES;
    for (uint32_t i = 0; i < model->input_count; ++i) {
      ins[i] = from;
      from += padded(model->inputs[i].bytes);
    }
    for (uint32_t i = 0; i < model->output_count; ++i) {
      outs[i] = to;
      to += padded(model->outputs[i].bytes);
    }
    for (size_t i = 0; i < sizeof arena; ++i) arena[i] = 0xA5;
    if (model->input_offsets) enter_arena(model, ins, outs);
    if (model->run(ins, outs, arena) != MLOPSC_OK) return 3;
    to = outputs + v * OUTPUT_BYTES;
    for (uint32_t i = 0; i < model->output_count; ++i) {
      if (outs[i] != to) copy(to, outs[i], (size_t)model->outputs[i].bytes);
      to += padded(model->outputs[i].bytes);
    }
  }
  return harness_write_file("outputs.bin", outputs, VECTORS * OUTPUT_BYTES) ? 4 : 0;
}
