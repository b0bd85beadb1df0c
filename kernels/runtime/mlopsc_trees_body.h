/* The function NAME of mlopsc_trees.h, for elements REAL and words WORD. */
#include "mlopsc_math_bits.h"
#include "mlopsc_trees.h"

static const REAL *find_leaf(const REAL *x, WORD place, const WORD *nodes, const REAL *splits,
                             const REAL *leaves, int32_t width) {
  const WORD top = (WORD)((WORD)1 << (sizeof(WORD) * 8 - 1)), next = top / 2;
  while (!(place & top)) {
    const WORD *node = nodes + (uint32_t)place * 3u;
    WORD how = node[0];
    REAL value = x[how & (next - 1u)], split = splits[place];
    int holds;
    if (value <= split)
      holds = !(how & next) || value == split;
    else
      holds = (how & top) && value != value;
    place = node[holds ? 1 : 2];
  }
  return leaves + (uint32_t)(place ^ top) * (uint32_t)width;
}

MLOPSC_TREES(NAME, REAL, WORD) {
  const REAL none = rule == MLOPSC_TREES_SUM ? 0 : (REAL)from_bits(NAN_BITS);
  for (int32_t row = 0; row < rows; ++row, x += features, y += targets) {
    for (int32_t i = 0; i < targets; ++i) y[i] = none;
    for (int32_t tree = 0; tree < count; ++tree) {
      const REAL *leaf = find_leaf(x, trees[2 * tree], nodes, splits, leaves, width);
      REAL *out = y + trees[2 * tree + 1];
      for (int32_t i = 0; i < width; ++i) {
        if (rule == MLOPSC_TREES_SUM)
          out[i] += leaf[i];
        else if (leaf[i] == leaf[i] &&
                 !(rule == MLOPSC_TREES_MIN ? out[i] <= leaf[i] : out[i] >= leaf[i]))
          out[i] = leaf[i];
      }
    }
    for (int32_t i = 0; i < targets && rule != MLOPSC_TREES_SUM; ++i)
      if (y[i] != y[i]) y[i] = 0;
  }
}
