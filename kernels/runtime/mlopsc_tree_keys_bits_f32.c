/* Keys of features from the bits of floats: see mlopsc_tree_words.h. */
#include "mlopsc_math_bits.h"
#include "mlopsc_tree_words.h"

#if defined(__clang__)
#define ROLLED _Pragma("clang loop vectorize(disable) unroll(disable)")
#else
#define ROLLED
#endif

void mlopsc_tree_keys_bits_f32(const float *x, const uint16_t *features, uint32_t *keys, int32_t rows,
                               int32_t width, int32_t columns, int32_t missing, int32_t lowest,
                               int32_t highest, int32_t drop, int32_t key_shift) {
  const uint32_t next = (uint32_t)lowest + 1u, count = (uint32_t)highest - (uint32_t)lowest;
  ROLLED
  for (int32_t row = 0; row < rows; ++row, x += width, keys += columns) {
    ROLLED
    for (int32_t column = 0; column < columns; ++column) {
      uint32_t bits = to_bits(x[features[column]]);
      uint32_t place = bits >> 31 ? 0x80000000u - bits : bits; /* ordered as integers are */
      uint32_t key = place - next;
      if (key < count) { /* Rounded up: only what is at most a split may have its key. */
        key = (key >> drop) + 1u;
      } else {
        int above = (int32_t)place > highest;
        if ((bits & 0x7fffffffu) > INFINITY_BITS) above = column < missing;
        key = above ? (count >> drop) + 1u : 0;
      }
      keys[column] = key << key_shift;
    }
  }
}
