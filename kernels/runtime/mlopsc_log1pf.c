/* Logarithm of one plus x, exact for small x: see mlopsc_math.h. */
#include "mlopsc_math_bits.h"

float mlopsc_log1pf(float x) {
  float sum = 1.0f + x;
  if (sum == 1.0f) return x; /* also keeps -0 */
  if (to_bits(sum) >= INFINITY_BITS) return mlopsc_logf(sum); /* infinity, negative or NaN */
  /* W. Kahan: the rounding error of the sum cancels in the quotient. */
  return mlopsc_logf(sum) * (x / (sum - 1.0f));
}
