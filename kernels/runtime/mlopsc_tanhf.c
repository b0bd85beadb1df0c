/* Hyperbolic tangent: see mlopsc_math.h. Polynomials are minimax fits, made in 40 digits. */
#include "mlopsc_math_bits.h"

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
