/* The k largest or smallest elements of every row: included once per element type, with NAME,
 * ELEMENT and IS_NAN defined.
 *
 * x is [outer, size, inner]; values and indices are [outer, k, inner], sorted. NaN is larger than
 * any number; of equal elements the first comes first. A heap of the kept indices lies in the
 * output itself, with the worst on top, so no other memory is needed: O(size log k) per row.
 */
#include "mlopsc_topk.h"

/* Whether a stands before b in the result. */
static int before(const ELEMENT *x, int32_t inner, int64_t a, int64_t b, int32_t largest) {
  ELEMENT p = x[a * inner], q = x[b * inner];
  int p_nan = IS_NAN(p), q_nan = IS_NAN(q);
  if (p_nan != q_nan) return largest ? p_nan : q_nan;
  if (!p_nan && p != q) return largest ? p > q : p < q;
  return a < b;
}

static void sift(const ELEMENT *x, int64_t *heap, int32_t inner, int32_t count, int32_t at,
                 int32_t largest) {
  for (;;) {
    int32_t worst = at, child = 2 * at + 1;
    for (int32_t c = child; c < count && c < child + 2; ++c)
      if (before(x, inner, heap[(int64_t)worst * inner], heap[(int64_t)c * inner], largest))
        worst = c;
    if (worst == at) return;
    int64_t moved = heap[(int64_t)at * inner];
    heap[(int64_t)at * inner] = heap[(int64_t)worst * inner];
    heap[(int64_t)worst * inner] = moved;
    at = worst;
  }
}

MLOPSC_TOPK(NAME, ELEMENT) {
  if (k <= 0) return;
  for (int32_t o = 0; o < outer; ++o)
    for (int32_t i = 0; i < inner; ++i) {
      const ELEMENT *row = x + (int64_t)o * size * inner + i;
      int64_t *heap = indices + (int64_t)o * k * inner + i;
      ELEMENT *out = values + (int64_t)o * k * inner + i;
      for (int32_t j = 0; j < k; ++j) heap[(int64_t)j * inner] = j;
      for (int32_t j = k / 2; j-- > 0;) sift(row, heap, inner, k, j, largest);
      for (int32_t j = k; j < size; ++j)
        if (before(row, inner, j, heap[0], largest)) {
          heap[0] = j;
          sift(row, heap, inner, k, 0, largest);
        }
      for (int32_t j = k - 1; j > 0; --j) { /* the worst goes last */
        int64_t last = heap[(int64_t)j * inner];
        heap[(int64_t)j * inner] = heap[0];
        heap[0] = last;
        sift(row, heap, inner, j, 0, largest);
      }
      for (int32_t j = 0; j < k; ++j)
        out[(int64_t)j * inner] = row[heap[(int64_t)j * inner] * inner];
    }
}
