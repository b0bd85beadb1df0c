/* Pins the layout of the descriptor: programs in other languages read it by offset
 * (docs/c-abi.md, src/mlopsc/abi.py). */
#include <stdio.h>

#include "mlopsc.h"

static int failures = 0;

static void check(const char *what, size_t found, size_t narrow, size_t wide) {
  size_t expected = sizeof(void *) == 8 ? wide : narrow;
  if (found != expected) {
    printf("%s is at %zu, expected %zu\n", what, found, expected);
    ++failures;
  }
}

#define MODEL(field, narrow, wide) \
  check("mlopsc_model." #field, offsetof(mlopsc_model, field), narrow, wide)
#define TENSOR(field, narrow, wide) \
  check("mlopsc_tensor." #field, offsetof(mlopsc_tensor, field), narrow, wide)

int main(void) {
  MODEL(abi_version, 0, 0);
  MODEL(struct_bytes, 4, 4);
  MODEL(name, 8, 8);
  MODEL(version, 12, 16);
  MODEL(target, 16, 24);
  MODEL(bundle, 20, 32);
  MODEL(inputs, 24, 40);
  MODEL(outputs, 28, 48);
  MODEL(input_count, 32, 56);
  MODEL(output_count, 36, 60);
  MODEL(arena_bytes, 40, 64);
  MODEL(arena_align, 48, 72);
  MODEL(run, 56, 80);
  MODEL(input_offsets, 60, 88);
  MODEL(output_offsets, 64, 96);
  TENSOR(name, 0, 0);
  TENSOR(shape, 4, 8);
  TENSOR(bytes, 8, 16);
  TENSOR(dtype, 16, 24);
  TENSOR(rank, 20, 28);
  TENSOR(scale, 24, 32);
  TENSOR(zero_point, 28, 36);
  check("sizeof(mlopsc_tensor)", sizeof(mlopsc_tensor), 32, 40);
  if (!failures) printf("descriptor layout is as specified\n");
  return failures != 0;
}
