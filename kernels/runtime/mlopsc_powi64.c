/* Integer power, modulo 2^64: see mlopsc_math.h. */
#include "mlopsc_math.h"

int64_t mlopsc_powi64(int64_t x, int64_t y) {
  if (y < 0) { /* 1 / x^-y, truncated; 0 to a negative power is 0, as an integer divided by 0 */
    if (x == 1) return 1;
    return x == -1 ? ((y & 1) ? -1 : 1) : 0;
  }
  uint64_t base = (uint64_t)x, result = 1, exponent = (uint64_t)y;
  for (; exponent; exponent >>= 1) {
    if (exponent & 1) result *= base;
    base *= base;
  }
  return (int64_t)result;
}
