/* Error function: see mlopsc_math.h. Polynomials are minimax fits, made in 40 digits. */
#include "mlopsc_math_bits.h"

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
