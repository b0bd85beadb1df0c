/* Functions of one element: see mlopsc_micro.h. */
#include "mlopsc_micro.h"

void mlopsc_table_s8(const int8_t *x, const int8_t *table, int8_t *y, int32_t elements) {
  for (int32_t i = 0; i < elements; ++i) y[i] = table[x[i] + 128];
}
