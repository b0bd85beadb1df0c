/* Exponential: see mlopsc_math.h. Polynomials are minimax fits, made in 40 digits. */
#include "mlopsc_math_bits.h"

/* 2^n for -126 <= n <= 127 */
static float power_of_two(int32_t n) { return from_bits((uint32_t)(n + 127) << 23); }

/* Multiplies by 2^n, -252 <= n <= 254, rounding once where the result is subnormal. */
static float scale(float x, int32_t n) {
  int32_t half = n / 2;
  return x * power_of_two(half) * power_of_two(n - half);
}

float mlopsc_expf(float x) {
  if (!(x <= 88.72284f)) return x != x ? x : from_bits(INFINITY_BITS);
  if (x < -103.97208f) return 0.0f;
  float t = x * 1.44269504f;
  int32_t n = (int32_t)(t < 0.0f ? t - 0.5f : t + 0.5f);
  float r = (x - (float)n * 0.693359375f) + (float)n * 2.12194440e-4f; /* Cody and Waite */
  float p = 1.989299176e-04f;
  p = p * r + 1.393545184e-03f;
  p = p * r + 8.333309087e-03f;
  p = p * r + 4.166644837e-02f;
  p = p * r + 1.666666668e-01f;
  p = p * r + 5.0e-01f;
  return scale(1.0f + (r + r * r * p), n);
}
