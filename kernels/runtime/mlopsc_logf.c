/* Natural logarithm: see mlopsc_math.h. Polynomials are minimax fits, made in 40 digits. */
#include "mlopsc_math_bits.h"

float mlopsc_logf(float x) {
  uint32_t bits = to_bits(x);
  int32_t n = 0;
  if (!(x > 0.0f)) {
    if (x == 0.0f) return from_bits(INFINITY_BITS | 0x80000000u);
    return x != x ? x : from_bits(NAN_BITS);
  }
  if (bits >= INFINITY_BITS) return x;
  if (bits < 0x00800000u) { /* subnormal */
    bits = to_bits(x * 8388608.0f);
    n = -23;
  }
  /* x = m * 2^n with sqrt(1/2) <= m < sqrt(2) */
  uint32_t shifted = bits - 0x3f3504f3u;
  n += (int32_t)shifted >> 23;
  float f = from_bits((shifted & 0x007fffffu) + 0x3f3504f3u) - 1.0f;
  float p = 6.971611471e-02f;
  p = p * f - 1.147973385e-01f;
  p = p * f + 1.168541992e-01f;
  p = p * f - 1.242568733e-01f;
  p = p * f + 1.424905765e-01f;
  p = p * f - 1.666780232e-01f;
  p = p * f + 2.000071575e-01f;
  p = p * f - 2.499999696e-01f;
  p = p * f + 3.333333118e-01f;
  float y = f * f * f * p - (float)n * 2.12194440e-4f;
  return (y - 0.5f * f * f + f) + (float)n * 0.693359375f;
}
