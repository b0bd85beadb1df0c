/* See mlopsc_math.h. Polynomials are minimax fits (Chebyshev interpolation in 40 digits). */
#include "mlopsc_math.h"

#include <stdint.h>

#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#endif

static float from_bits(uint32_t u) {
  union {
    uint32_t u;
    float f;
  } v;
  v.u = u;
  return v.f;
}

static uint32_t to_bits(float f) {
  union {
    float f;
    uint32_t u;
  } v;
  v.f = f;
  return v.u;
}

static double double_from_bits(uint64_t u) {
  union {
    uint64_t u;
    double d;
  } v;
  v.u = u;
  return v.d;
}

static uint64_t double_to_bits(double d) {
  union {
    double d;
    uint64_t u;
  } v;
  v.d = d;
  return v.u;
}

static const uint32_t INFINITY_BITS = 0x7f800000u;

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

float mlopsc_logf(float x) {
  uint32_t bits = to_bits(x);
  int32_t n = 0;
  if (!(x > 0.0f)) {
    if (x == 0.0f) return from_bits(INFINITY_BITS | 0x80000000u);
    return x != x ? x : from_bits(0x7fc00000u);
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

float mlopsc_tanhf(float x) {
  float a = from_bits(to_bits(x) & 0x7fffffffu);
  if (a < 0.000244140625f) return x; /* also keeps -0 */
  if (a < 0.625f) {
    float z = x * x;
    float p = 2.269501684e-03f;
    p = p * z - 8.323187058e-03f;
    p = p * z + 2.176250291e-02f;
    p = p * z - 5.395846163e-02f;
    p = p * z + 1.333330015e-01f;
    p = p * z - 3.333333315e-01f;
    return x + x * z * p;
  }
  if (x != x) return x;
  float y = a > 9.1f ? 1.0f : 1.0f - 2.0f / (mlopsc_expf(2.0f * a) + 1.0f);
  return x < 0.0f ? -y : y;
}

float mlopsc_erff(float x) {
  float a = from_bits(to_bits(x) & 0x7fffffffu);
  if (a < 1.0f) {
    float z = x * x;
    float p = -9.667044571e-06f;
    p = p * z + 1.126595903e-04f;
    p = p * z - 8.484080406e-04f;
    p = p * z + 5.221031808e-03f;
    p = p * z - 2.686543073e-02f;
    p = p * z + 1.128378250e-01f;
    p = p * z - 3.761263847e-01f;
    /* 2/sqrt(pi) = 1 + 0.128379167: the exact part keeps small results correctly rounded */
    return x + x * (p * z + 1.283791671e-01f);
  }
  if (x != x) return x;
  float y = 1.0f;
  if (a < 4.0f) { /* erf(a) = 1 - exp(-q(a)) */
    float q = 7.582681970e-08f;
    q = q * a - 3.321684591e-06f;
    q = q * a + 6.229835325e-05f;
    q = q * a - 6.858366830e-04f;
    q = q * a + 5.064946920e-03f;
    q = q * a - 2.709952329e-02f;
    q = q * a + 1.110550174e-01f;
    q = q * a + 6.309530298e-01f;
    q = q * a + 1.130675144e+00f;
    q = q * a - 4.163292177e-04f;
    y = 1.0f - mlopsc_expf(-q);
  }
  return x < 0.0f ? -y : y;
}

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
  if ((to_bits(x) >> 31) && !integer) return from_bits(0x7fc00000u);
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

/* Reduces |x| to r in [-pi/4, pi/4] and returns the quadrant (Payne and Hanek for large x). */
static uint32_t reduce(float x, float *r) {
  static const uint32_t two_over_pi[] = {0x00000000u, 0xa2f9836eu, 0x4e441529u, 0xfc2757d1u,
                                         0xf534ddc0u, 0xdb629599u, 0x3c439041u, 0xfe5163abu};
  uint32_t bits = to_bits(x);
  if (bits < 0x47000000u) { /* below 32768 */
    int32_t n = (int32_t)((double)x * 0.63661977236758134 + 0.5);
    *r = (float)((double)x - (double)n * 1.5707963267948966);
    return (uint32_t)n & 3u;
  }
  /* x = mantissa * 2^e; multiply by the 96 bits of 2/pi that matter modulo 4. */
  uint32_t e = (bits >> 23) - 127u;
  uint64_t mantissa = ((bits & 0x007fffffu) | 0x00800000u);
  uint32_t word = (e + 7u) >> 5, shift = (e + 7u) & 31u;
  uint32_t w[3];
  for (uint32_t i = 0; i < 3; ++i) {
    uint64_t pair = ((uint64_t)two_over_pi[word + i] << 32) | two_over_pi[word + i + 1];
    w[i] = (uint32_t)((pair << shift) >> 32);
  }
  uint64_t low = mantissa * w[2];
  uint64_t middle = mantissa * w[1] + (low >> 32);
  uint64_t high = mantissa * w[0] + (middle >> 32);
  uint64_t product = (high << 32) | (middle & 0xffffffffu); /* 2 integer bits, 62 of fraction */
  uint32_t quadrant = (uint32_t)(product >> 62);
  uint64_t fraction = product << 2;
  if (fraction >> 63) { /* nearer to the next quadrant */
    quadrant = (quadrant + 1u) & 3u;
  }
  *r = (float)((double)(int64_t)fraction * (1.5707963267948966 / 18446744073709551616.0));
  return quadrant;
}

static float sine(float r) {
  float z = r * r;
  float p = 2.724686872e-06f;
  p = p * z - 1.984006304e-04f;
  p = p * z + 8.333331831e-03f;
  p = p * z - 1.666666666e-01f;
  return r + r * z * p;
}

static float cosine(float r) {
  float z = r * r;
  float p = -2.729840765e-07f;
  p = p * z + 2.480058060e-05f;
  p = p * z - 1.388888764e-03f;
  p = p * z + 4.166666666e-02f;
  return 1.0f - 0.5f * z + z * z * p;
}

static float sin_or_cos(float x, uint32_t shift) {
  uint32_t bits = to_bits(x);
  float r;
  if ((bits & 0x7fffffffu) >= INFINITY_BITS) return from_bits(0x7fc00000u);
  uint32_t quadrant = reduce(from_bits(bits & 0x7fffffffu), &r) + shift;
  float y = quadrant & 1u ? cosine(r) : sine(r);
  return quadrant & 2u ? -y : y;
}

float mlopsc_sinf(float x) {
  if ((to_bits(x) & 0x7fffffffu) < 0x39000000u) return x; /* also keeps -0 */
  float y = sin_or_cos(x, 0u);
  return to_bits(x) >> 31 ? -y : y;
}

float mlopsc_cosf(float x) { return sin_or_cos(x, 1u); }
