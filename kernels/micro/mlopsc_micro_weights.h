/* How weights lie in memory: MLOPSC_WEIGHT_BITS is 8, or 4 for two in a byte.
 *
 * Kernels are written once for both; a C file for each number of bits includes them, once, after it
 * has defined this and NAME, the function: so there is no guard. Weights of 4 bits
 * are used as 16 times their value, which clears or moves the other half of the byte and extends the
 * sign of this one in as few instructions; sums are then 16 times as large and divided at the end. */
#include <stdint.h>

#include "mlopsc_micro_requantize.h"

#define MLOPSC_WORD_WEIGHTS (32 / MLOPSC_WEIGHT_BITS) /* in a word */

#if MLOPSC_WEIGHT_BITS == 4
#define MLOPSC_WEIGHT_BYTES(count) (((count) + 1) / 2)

/* Two weights that lie beside each other. */
static inline int32_t mlopsc_first(const int8_t *w) {
  return mlopsc_shift_down((int8_t)((uint32_t)*w << 4), 4);
}
static inline int32_t mlopsc_second(const int8_t *w) { return mlopsc_shift_down(*w, 4); }

/* The one of number k. */
static inline int32_t mlopsc_weight(const int8_t *w, int32_t k) {
  return k % 2 != 0 ? mlopsc_second(w + k / 2) : mlopsc_first(w + k / 2);
}

/* Of the weights of a word, those in the upper halves of the bytes. */
static inline uint32_t mlopsc_four_weights(uint32_t word) { return word & 0xf0f0f0f0U; }

/* Where an accumulator of products starts, and the sum that it makes with what was there before. */
static inline int32_t mlopsc_begin_sum(int32_t before) {
  (void)before;
  return 0;
}
static inline int32_t mlopsc_end_sum(int32_t before, int32_t products) {
  return before + mlopsc_shift_down(products, 4);
}

/* `count` weights from the one of number `first` on, in 8 bits: in the buffer. */
static inline const int8_t *mlopsc_wide_weights(const int8_t *w, int32_t first, int32_t count,
                                                int8_t *buffer) {
  for (int32_t i = 0; i < count; ++i)
    buffer[i] = (int8_t)mlopsc_weight(w, first + i);
  return buffer;
}
#else
#define MLOPSC_WEIGHT_BYTES(count) (count)

static inline int32_t mlopsc_first(const int8_t *w) { return w[0]; }
static inline int32_t mlopsc_second(const int8_t *w) { return w[1]; }
static inline int32_t mlopsc_weight(const int8_t *w, int32_t k) { return w[k]; }
static inline uint32_t mlopsc_four_weights(uint32_t word) { return word; }
static inline int32_t mlopsc_begin_sum(int32_t before) { return before; }
static inline int32_t mlopsc_end_sum(int32_t before, int32_t products) {
  (void)before;
  return products;
}
static inline const int8_t *mlopsc_wide_weights(const int8_t *w, int32_t first, int32_t count,
                                                int8_t *buffer) {
  (void)count;
  (void)buffer;
  return w + first;
}
#endif
