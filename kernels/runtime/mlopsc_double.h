/* Elementary functions in double, good enough to be rounded to float: relative error below 2^-40.
 * Polynomials are minimax fits, made in 40 digits, or Taylor's. Arguments are finite and in the
 * range that each comment says. */
#ifndef MLOPSC_DOUBLE_H
#define MLOPSC_DOUBLE_H

#include "mlopsc_math_bits.h"

#define HALF_PI 1.5707963267948966

/* Natural logarithm of a positive normal double. */
static inline double log_double(double x) {
  uint64_t shifted = double_to_bits(x) - 0x3fe6a09e667f3bcdull; /* sqrt(1/2) */
  int32_t n = (int32_t)((int64_t)shifted >> 52);
  double m = double_from_bits((shifted & 0x000fffffffffffffull) + 0x3fe6a09e667f3bcdull);
  double s = (m - 1.0) / (m + 1.0), z = s * s;
  double p = 1.46193434535126149e-01;
  p = p * z + 1.53314872358657345e-01;
  p = p * z + 1.81828961834830855e-01;
  p = p * z + 2.22222110378165888e-01;
  p = p * z + 2.85714286265702055e-01;
  p = p * z + 3.99999999998981892e-01;
  p = p * z + 6.66666666666666963e-01;
  return (double)n * 0.69314718055994531 + (2.0 * s + s * z * p);
}

/* exp of a double in [-700, 700]. */
static inline double exp_double(double x) {
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
  return (1.0 + (r + r * r * p)) * double_from_bits((uint64_t)(n + 1023) << 52);
}

/* Square root of a double in [0, 1e77]: Newton's method on 1/sqrt(x). */
static inline double sqrt_double(double x) {
  if (x <= 0.0) return 0.0;
  double y = double_from_bits(0x5fe6eb50c7b537a9ull - (double_to_bits(x) >> 1));
  for (int i = 0; i < 4; ++i) y = y * (1.5 - 0.5 * x * y * y);
  return x * y;
}

/* Arc tangent of a double that is at least 0, infinity included. */
static inline double atan_double(double x) {
  int inverted = x > 1.0;
  double t = inverted ? 1.0 / x : x, base = 0.0;
  if (t > 0.4142135623730950) { /* tan(pi/8): turn by pi/4 */
    t = (t - 1.0) / (t + 1.0);
    base = 0.78539816339744831;
  }
  double z = t * t; /* at most 0.172 */
  double p = 1.0 / 25.0;
  for (int n = 23; n >= 3; n -= 2) p = 1.0 / (double)n - z * p;
  double y = base + (t - t * z * p);
  return inverted ? HALF_PI - y : y;
}

#endif
