/* The function NAME of mlopsc_tree_words.h that ranks elements REAL. */
#include "mlopsc_tree_words.h"

MLOPSC_RANK(NAME, REAL) {
  for (int32_t row = 0; row < rows; ++row, x += width, keys += columns) {
    for (int32_t column = 0; column < columns; ++column) {
      REAL value = x[features[column]];
      const REAL *first = splits + starts[column], *from = first;
      uint32_t count = starts[column + 1] - starts[column];
      if (value != value) {
        from += column < missing ? count : 0;
        count = 0;
      }
      while (count > 0) { /* Of the `count` splits at `from` some may be below the value. */
        uint32_t half = count / 2;
        int below = from[half] < value;
        from = below ? from + half + 1 : from;
        count = below ? count - half - 1 : half;
      }
      keys[column] = (uint32_t)(from - first) << key_shift;
    }
  }
}
