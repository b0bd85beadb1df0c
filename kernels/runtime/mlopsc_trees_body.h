/* The function NAME of mlopsc_trees.h, for elements REAL and words WORD. */
#include "mlopsc_math_bits.h"
#include "mlopsc_trees.h"

/* Each step of a walk waits for the one before. Where the processor can work ahead, several trees
 * are walked side by side; elsewhere that only costs. */
#ifndef MLOPSC_TREES_LANES
#if defined(__wasm__) || UINTPTR_MAX > UINT32_MAX
#define MLOPSC_TREES_LANES 8
#else
#define MLOPSC_TREES_LANES 1
#endif
#endif

#if defined(__clang__)
/* Gathering the parts of nodes into vectors and taking them apart again costs more than it gives. */
#define MLOPSC_TREES_SCALAR _Pragma("clang loop vectorize(disable) unroll(disable)")
#else
#define MLOPSC_TREES_SCALAR
#endif

/* Whether the comparison of a node whose first word has flags holds. */
static int holds_with_flags(REAL value, REAL split, WORD how) {
  const WORD top = (WORD)((WORD)1 << (sizeof(WORD) * 8 - 1)), equal = top / 2;
  if (value != value) return (how & top) != 0;
  return how & equal ? value == split : value <= split;
}

/* Walks from all `places` to leaves; a walk that has ended stays where it is. Which way a walk
 * takes is no branch: it would be guessed, and wrong every other time. */
static void find_leaves(const REAL *x, WORD *places, const WORD *nodes, const REAL *splits) {
  const WORD top = (WORD)((WORD)1 << (sizeof(WORD) * 8 - 1)), flags = top / 2;
  WORD ended;
  do {
    ended = top;
    MLOPSC_TREES_SCALAR
    for (int lane = 0; lane < MLOPSC_TREES_LANES; ++lane) {
      WORD place = places[lane], at = place & top ? 0 : place;
      const WORD *node = nodes + (uint32_t)at * 3u;
      WORD how = node[0];
      REAL value = x[how & (flags - 1u)], split = splits[at];
      int holds = value <= split;
      if (how >= flags) holds = holds_with_flags(value, split, how);
      WORD way = node[2 - holds];
      places[lane] = place & top ? place : way;
      ended &= places[lane];
    }
  } while (!ended);
}

/* Adds the weights of a leaf to the results, or keeps the least or largest. */
static void use_leaf(REAL *y, const REAL *leaf, int32_t width, int32_t rule) {
  for (int32_t i = 0; i < width; ++i) {
    if (rule == MLOPSC_TREES_SUM)
      y[i] += leaf[i];
    else if (leaf[i] == leaf[i] &&
             !(rule == MLOPSC_TREES_MIN ? y[i] <= leaf[i] : y[i] >= leaf[i]))
      y[i] = leaf[i];
  }
}

MLOPSC_TREES(NAME, REAL, WORD) {
  const REAL none = rule == MLOPSC_TREES_SUM ? 0 : (REAL)from_bits(NAN_BITS);
  const WORD top = (WORD)((WORD)1 << (sizeof(WORD) * 8 - 1));
  for (int32_t row = 0; row < rows; ++row, x += features, y += targets) {
    for (int32_t i = 0; i < targets; ++i) y[i] = none;
    for (int32_t first = 0; first < count; first += MLOPSC_TREES_LANES) {
      const WORD *heads = trees + 2 * first;
      int32_t left = count - first;
      WORD places[MLOPSC_TREES_LANES];
      for (int32_t lane = 0; lane < MLOPSC_TREES_LANES; ++lane)
        places[lane] = lane < left ? heads[2 * lane] : top;
      find_leaves(x, places, nodes, splits);
      for (int32_t lane = 0; lane < MLOPSC_TREES_LANES && lane < left; ++lane) {
        const REAL *leaf = leaves + (uint32_t)(places[lane] ^ top) * (uint32_t)width;
        use_leaf(y + heads[2 * lane + 1], leaf, width, rule);
      }
    }
    for (int32_t i = 0; i < targets && rule != MLOPSC_TREES_SUM; ++i)
      if (y[i] != y[i]) y[i] = 0;
  }
}
