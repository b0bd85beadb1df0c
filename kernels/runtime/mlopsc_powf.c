/* Power: see mlopsc_math.h. */
#include "mlopsc_double.h"

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
  double e = (double)y * log_double((double)from_bits(ax));
  uint32_t magnitude;
  if (e > 88.8) {
    magnitude = INFINITY_BITS;
  } else if (e < -104.0) {
    magnitude = 0;
  } else {
    magnitude = to_bits((float)exp_double(e));
  }
  return from_bits(magnitude | sign);
}
