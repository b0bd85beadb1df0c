/* Addition and subtraction with the DSP extension: see mlopsc_micro.h. */
#include "mlopsc_micro.h"
#include "mlopsc_micro_dsp.h"

static inline int8_t add(int32_t a, int32_t b, const mlopsc_add_shape *s) {
  int32_t sum = a * s->multiplier_a + b * s->multiplier_b + s->constant;
  sum = mlopsc_shift_down(sum, s->shift);
  __asm__("ssat %0, #8, %0" : "+r"(sum));
  return (int8_t)sum;
}

void mlopsc_add_s8(const int8_t *a, const int8_t *b, int8_t *y, const mlopsc_add_shape *shape) {
  const mlopsc_add_shape s = *shape;
  const int8_t *const end = a + s.elements, *const fours = a + (s.elements & ~3);
  for (; a != fours; a += 4, b += 4, y += 4) {
    const uint32_t p = mlopsc_word(a), q = mlopsc_word(b);
    y[0] = add((int8_t)p, (int8_t)q, &s);
    y[1] = add((int8_t)(p >> 8), (int8_t)(q >> 8), &s);
    y[2] = add((int8_t)(p >> 16), (int8_t)(q >> 16), &s);
    y[3] = add((int8_t)(p >> 24), (int8_t)(q >> 24), &s);
  }
  for (; a != end; ++a, ++b, ++y) *y = add(*a, *b, &s);
  mlopsc_clamp(y - s.elements, s.elements, s.low, s.high);
}
