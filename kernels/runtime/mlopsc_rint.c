/* Rounding of a double to the nearest integer, ties to even: see mlopsc_math.h. */
#include "mlopsc_math_bits.h"

double mlopsc_rint(double x) {
  uint64_t sign = double_to_bits(x) & 0x8000000000000000ull;
  double a = double_from_bits(double_to_bits(x) & 0x7fffffffffffffffull);
  if (!(a < 4503599627370496.0)) return x; /* an integer already, an infinity or NaN */
  a = (a + 4503599627370496.0) - 4503599627370496.0;
  return double_from_bits(double_to_bits(a) | sign);
}
