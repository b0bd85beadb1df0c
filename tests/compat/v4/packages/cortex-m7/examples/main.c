/* Runs digits on its test vector 0 and compares with the reference outputs. */
#include "digits.h"
#include "vector.h"

#if defined(EXAMPLE_BARE) /* board_start.c */
void example_write(const char *text);
#else
#include <stdio.h>
static void example_write(const char *text) { fputs(text, stdout); }
#endif

/* Scratch memory. It can be shared with anything else between calls. */
static unsigned char storage[DIGITS_ARENA_BYTES + DIGITS_ARENA_ALIGN];

/* Counts the elements whose difference exceeds the tolerance times the largest expected value. */
#define CHECK(got, expected, tolerance)                                \
  do {                                                                 \
    size_t count = sizeof(expected) / sizeof *(expected), i;           \
    double largest = 0.0;                                              \
    for (i = 0; i < count; ++i) {                                      \
      double e = (double)(expected)[i];                                \
      if (e < 0.0) e = -e;                                             \
      if (e - e == 0.0 && e > largest) largest = e; /* if finite */    \
    }                                                                  \
    for (i = 0; i < count; ++i) {                                      \
      double g = (double)(got)[i], e = (double)(expected)[i], d = g - e; \
      if (g == e || (g != g && e != e)) continue; /* also infinities, NaN */ \
      if (d < 0.0) d = -d;                                             \
      if (!(d <= (tolerance)*largest)) ++wrong;                        \
    }                                                                  \
  } while (0)

int main(void) {
  int wrong = 0;
  unsigned char *arena = storage;
  while ((uintptr_t)arena % DIGITS_ARENA_ALIGN) ++arena;

  if (digits_run(in_image, out_probabilities, arena) != MLOPSC_OK) {
    example_write("digits: the call failed\n");
    return 1;
  }
  CHECK(out_probabilities, expected_out_probabilities, 1e-05);
  example_write(wrong ? "digits: WRONG\n" : "digits: outputs agree with the reference\n");
  return wrong != 0;
}
