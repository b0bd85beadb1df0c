/* Rounding to the nearest integer, ties to even: see mlopsc_math.h. */
#include "mlopsc_math_bits.h"

float mlopsc_rintf(float x) {
  uint32_t sign = to_bits(x) & 0x80000000u;
  float a = from_bits(to_bits(x) & 0x7fffffffu);
  if (!(a < 8388608.0f)) return x; /* an integer already, an infinity or NaN */
  a = (a + 8388608.0f) - 8388608.0f;
  return from_bits(to_bits(a) | sign);
}
