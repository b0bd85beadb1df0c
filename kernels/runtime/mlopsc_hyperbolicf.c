/* Hyperbolic functions and their inverses: see mlopsc_math.h. */
#include "mlopsc_double.h"

float mlopsc_sinhf(float x) {
  double a = (double)from_bits(to_bits(x) & 0x7fffffffu), y;
  if (x != x || a < 0.000244140625) return x; /* also keeps -0 */
  if (a < 0.5) { /* where the difference below would cancel */
    double z = a * a;
    y = a + a * z * (1.0 / 6 + z * (1.0 / 120 + z * (1.0 / 5040 + z * (1.0 / 362880))));
  } else if (a > 90.0) {
    y = (double)from_bits(INFINITY_BITS);
  } else {
    double e = exp_double(a);
    y = 0.5 * (e - 1.0 / e);
  }
  return (float)(x < 0.0f ? -y : y);
}

float mlopsc_coshf(float x) {
  double a = (double)from_bits(to_bits(x) & 0x7fffffffu);
  if (x != x) return x;
  if (a > 90.0) return from_bits(INFINITY_BITS);
  double e = exp_double(a);
  return (float)(0.5 * (e + 1.0 / e));
}

float mlopsc_asinhf(float x) {
  double a = (double)from_bits(to_bits(x) & 0x7fffffffu);
  if (!(a < (double)from_bits(INFINITY_BITS)) || a < 0.000244140625) return x;
  double y = log_double(a + sqrt_double(a * a + 1.0));
  return (float)(x < 0.0f ? -y : y);
}

float mlopsc_acoshf(float x) {
  if (!(x >= 1.0f)) return from_bits(NAN_BITS);
  if (to_bits(x) == INFINITY_BITS) return x;
  double a = (double)x;
  return (float)log_double(a + sqrt_double((a - 1.0) * (a + 1.0)));
}

float mlopsc_atanhf(float x) {
  double a = (double)from_bits(to_bits(x) & 0x7fffffffu);
  if (!(a <= 1.0)) return from_bits(NAN_BITS);
  if (a < 0.000244140625) return x;
  double y = a < 1.0 ? 0.5 * log_double((1.0 + a) / (1.0 - a)) : (double)from_bits(INFINITY_BITS);
  return (float)(x < 0.0f ? -y : y);
}
