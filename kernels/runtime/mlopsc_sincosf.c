/* Sine and cosine: see mlopsc_math.h. Polynomials are minimax fits, made in 40 digits. */
#include "mlopsc_math_bits.h"

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
  if ((bits & 0x7fffffffu) >= INFINITY_BITS) return from_bits(NAN_BITS);
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
