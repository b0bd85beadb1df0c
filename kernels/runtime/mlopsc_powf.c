/* Power: see mlopsc_math.h. Polynomials are minimax fits, made in 40 digits. */
#include "mlopsc_math_bits.h"

/* Natural logarithm of a finite positive double that is a float: relative error below 2^-48. */
static double log_double(float x) {
  uint64_t bits = double_to_bits((double)x);
  uint64_t shifted = bits - 0x3fe6a09e667f3bcdull; /* sqrt(1/2) */
  int32_t n = (int32_t)((int64_t)shifted >> 52);
  double m = double_from_bits((shifted & 0x000fffffffffffffull) + 0x3fe6a09e667f3bcdull);
  double s = (m - 1.0) / (m + 1.0);
  double z = s * s;
  double p = 1.46193434535126149e-01;
  p = p * z + 1.53314872358657345e-01;
  p = p * z + 1.81828961834830855e-01;
  p = p * z + 2.22222110378165888e-01;
  p = p * z + 2.85714286265702055e-01;
  p = p * z + 3.99999999998981892e-01;
  p = p * z + 6.66666666666666963e-01;
  return (double)n * 0.69314718055994531 + (2.0 * s + s * z * p);
}

/* exp of a double in [-104, 89], rounded to float. */
static float exp_double(double x) {
  double t = x * 1.4426950408889634;
  int32_t n = (int32_t)(t < 0.0 ? t - 0.5 : t + 0.5);
  double r = x - (double)n * 0.69314718055994531;
  double p = 2.76160795489319212e-07;
  p = p * r + 2.76278437212854709e-06;
  p = p * r + 2.48015322109863328e-05;
  p = p * r + 1.98412037176265589e-04;
  p = p * r + 1.38888889080150029e-03;
  p = p * r + 8.33333335629038267e-03;
  p = p * r + 4.16666666666487412e-02;
  p = p * r + 1.66666666666451496e-01;
  p = p * r + 0.5;
  return (float)((1.0 + (r + r * r * p)) * double_from_bits((uint64_t)(n + 1023) << 52));
}

float mlopsc_powf(float x, float y) {
  uint32_t ay = to_bits(y) & 0x7fffffffu;
  uint32_t ax = to_bits(x) & 0x7fffffffu;
  if (ay == 0 || to_bits(x) == 0x3f800000u) return 1.0f;
  if (x != x || y != y) return x + y;
  if (ay == INFINITY_BITS) {
    if (ax == 0x3f800000u) return 1.0f;
    return (ax > 0x3f800000u) == (y > 0.0f) ? from_bits(INFINITY_BITS) : 0.0f;
  }
  /* Is y an integer, and is it odd? */
  int integer = ay >= 0x4b800000u;
  int odd = 0;
  if (!integer && ay >= 0x3f800000u) {
    uint32_t fraction_bits = 150u - (ay >> 23);
    uint32_t mantissa = (ay & 0x007fffffu) | 0x00800000u;
    integer = (mantissa & ((1u << fraction_bits) - 1u)) == 0;
    odd = integer && ((mantissa >> fraction_bits) & 1u);
  }
  uint32_t sign = (to_bits(x) >> 31) && odd ? 0x80000000u : 0u;
  if (ax == 0) return from_bits((y > 0.0f ? 0u : INFINITY_BITS) | sign);
  if (ax == INFINITY_BITS) return from_bits((y > 0.0f ? INFINITY_BITS : 0u) | sign);
  if ((to_bits(x) >> 31) && !integer) return from_bits(NAN_BITS);
  double e = (double)y * log_double(from_bits(ax));
  uint32_t magnitude;
  if (e > 88.8) {
    magnitude = INFINITY_BITS;
  } else if (e < -104.0) {
    magnitude = 0;
  } else {
    magnitude = to_bits(exp_double(e));
  }
  return from_bits(magnitude | sign);
}
