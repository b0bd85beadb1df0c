/* Inverse trigonometric functions: see mlopsc_math.h. */
#include "mlopsc_double.h"

float mlopsc_atanf(float x) {
  double a = (double)from_bits(to_bits(x) & 0x7fffffffu);
  if (x != x || a < 0.000244140625) return x; /* also keeps -0 */
  float y = (float)(a > 1e30 ? HALF_PI : atan_double(a));
  return x < 0.0f ? -y : y;
}

/* asin of a double in [0, 1]. */
static double asin_double(double a) {
  double c = sqrt_double((1.0 - a) * (1.0 + a));
  return c > 0.0 ? atan_double(a / c) : HALF_PI;
}

float mlopsc_asinf(float x) {
  double a = (double)from_bits(to_bits(x) & 0x7fffffffu);
  if (!(a <= 1.0)) return from_bits(NAN_BITS);
  if (a < 0.000244140625) return x; /* also keeps -0 */
  float y = (float)asin_double(a);
  return x < 0.0f ? -y : y;
}

float mlopsc_acosf(float x) {
  double a = (double)from_bits(to_bits(x) & 0x7fffffffu);
  if (!(a <= 1.0)) return from_bits(NAN_BITS);
  double c = sqrt_double((1.0 - a) * (1.0 + a));
  double y = a > 0.0 ? atan_double(c / a) : HALF_PI; /* acos(|x|): exact where it is small */
  return (float)(x < 0.0f ? 2.0 * HALF_PI - y : y);
}
