/* A program that runs a model on every set of inputs of "inputs.bin" and writes the outputs to the
 * file "outputs.bin", and how deep the stack of the first call was to "stack.bin". Built by the QEMU
 * runner, for boards and for Linux processors alike. Instructions are counted between the functions
 * harness_begin and harness_end. */
#include <stddef.h>
#include <stdint.h>

#include "mlopsc.h"
#include "run_vectors.h" /* VECTORS, INPUT_BYTES, OUTPUT_BYTES, ARENA_BYTES, ARENA_ALIGN, MAX_IO */

#define PAINT 0x5AC3A53Cu /* what the unused stack is painted with */

static const unsigned char inputs[] __attribute__((aligned(64))) = {
#embed "inputs.bin"
};
static unsigned char outputs[VECTORS * OUTPUT_BYTES + 1] __attribute__((aligned(64)));
static unsigned char arena[ARENA_BYTES + 1] __attribute__((aligned(ARENA_ALIGN)));

int harness_write_file(const char *name, const void *data, size_t bytes);
void harness_begin(void);
void harness_end(void);
int32_t harness_run(const mlopsc_model *model, const void *const *ins, void *const *outs,
                    uint64_t *depth);

#if defined(EXAMPLE_BARE)
extern uint32_t bss_end[];
#define STACK_LIMIT(top) bss_end
#else
#include <stdio.h>
int harness_write_file(const char *name, const void *data, size_t bytes) {
  FILE *file = fopen(name, "wb");
  return !file || fwrite(data, 1, bytes, file) != bytes || fclose(file) != 0;
}
#define STACK_LIMIT(top) ((top) - (1u << 18)) /* 1 MiB */
#endif

__attribute__((noinline)) void harness_begin(void) { __asm__ volatile(""); }
__attribute__((noinline)) void harness_end(void) { __asm__ volatile(""); }

/* Every tensor starts at a multiple of 64 bytes. */
static size_t padded(uint64_t bytes) { return (size_t)((bytes + 63u) & ~(uint64_t)63u); }

register uintptr_t stack_pointer __asm__("sp");

/* Calls the model and measures how many bytes of stack it takes, or SIZE_MAX if too many. Nothing
 * else may use the stack below this function's frame meanwhile: no call but the model's, and
 * volatile, so that no loop becomes one. */
__attribute__((noinline)) int32_t harness_run(const mlopsc_model *model, const void *const *ins,
                                              void *const *outs, uint64_t *depth) {
  volatile uint32_t *const top = (volatile uint32_t *)(stack_pointer & ~(uintptr_t)3);
  volatile uint32_t *const limit = STACK_LIMIT(top);
  volatile uint32_t *word;
  for (word = limit; word < top; ++word) *word = PAINT;
  harness_begin();
  int32_t status = model->run(ins, outs, arena);
  harness_end();
  for (word = limit; word < top && *word == PAINT;) ++word;
  *depth = word == limit ? UINT64_MAX : (uint64_t)((uintptr_t)top - (uintptr_t)word);
  return status;
}

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
  uint64_t depth = 0;
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
    int32_t status = v ? model->run(ins, outs, arena) : harness_run(model, ins, outs, &depth);
    if (status != MLOPSC_OK) return 3;
    if (depth == UINT64_MAX) return 5;
    to = outputs + v * OUTPUT_BYTES;
    for (uint32_t i = 0; i < model->output_count; ++i) {
      if (outs[i] != to) copy(to, outs[i], (size_t)model->outputs[i].bytes);
      to += padded(model->outputs[i].bytes);
    }
  }
  if (harness_write_file("stack.bin", &depth, sizeof depth)) return 4;
  return harness_write_file("outputs.bin", outputs, VECTORS * OUTPUT_BYTES) ? 4 : 0;
}
