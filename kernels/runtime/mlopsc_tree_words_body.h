/* The function NAME of mlopsc_tree_words.h, for weights REAL; LONG and SHARED choose its form. */
#include "mlopsc_tree_words.h"

/* As in mlopsc_trees_body.h: where the processor can work ahead, several trees are walked side by
 * side, and which way a walk takes is no branch. */
#ifndef MLOPSC_TREES_LANES
#if defined(__wasm__) || UINTPTR_MAX > UINT32_MAX
#define MLOPSC_TREES_LANES 8
#else
#define MLOPSC_TREES_LANES 1
#endif
#endif

#if defined(__clang__)
#define MLOPSC_TREES_SCALAR _Pragma("clang loop vectorize(disable) unroll(disable)")
#else
#define MLOPSC_TREES_SCALAR
#endif

#define WORDS (LONG + 1) /* of a node */

/* Returns where a walk goes from `node`: the place times 1 << `shift`, and what is less. */
static inline int32_t next(const uint32_t *keys, const uint32_t *node, uint32_t mask,
                           int32_t shift) {
#if LONG
  return (int32_t)(node[0] + ((uint32_t)(keys[node[0] & mask] > node[1]) << shift));
#else
  (void)shift;
  return (int32_t)(node[0] + keys[node[0] & mask]);
#endif
}

#if MLOPSC_TREES_LANES > 1
/* Walks the trees at `nodes` from their roots to leaves; a walk that has ended stays. */
static void find_leaves(const uint32_t *keys, const uint32_t *const *nodes, int32_t *places,
                        uint32_t mask, int32_t shift) {
  int32_t ended;
  do {
    ended = -1;
    MLOPSC_TREES_SCALAR
    for (int lane = 0; lane < MLOPSC_TREES_LANES; ++lane) {
      int32_t place = places[lane];
      int32_t way = next(keys, nodes[lane] + WORDS * (place < 0 ? 0 : place), mask, shift);
      places[lane] = place < 0 ? place : way >> shift;
      ended &= places[lane];
    }
  } while (ended >= 0);
}
#else
/* Walks the tree at `nodes` from its root to a leaf. */
static inline int32_t find_leaf(const uint32_t *keys, const uint32_t *nodes, uint32_t mask,
                                int32_t shift) {
  int32_t place = 0, way;
#if defined(__thumb2__) && !LONG
  /* Compilers do not see that the addition has already told whether the walk ends. */
  __asm__("1:\n\t"
          "ldr %0, [%2, %0, lsl #2]\n\t"
          "and %1, %0, %4\n\t"
          "ldr %1, [%3, %1, lsl #2]\n\t"
          "adds %0, %0, %1\n\t"
          "asr %0, %0, %5\n\t"
          "bpl 1b"
          : "+&r"(place), "=&r"(way)
          : "r"(nodes), "r"(keys), "r"(mask), "r"(shift)
          : "cc", "memory");
#else
  MLOPSC_TREES_SCALAR
  do {
    way = next(keys, nodes + WORDS * place, mask, shift);
    place = way >> shift;
  } while (way >= 0);
#endif
  return place;
}
#endif

/* Adds the weights of a leaf. */
#if SHARED
#define LEAVES const uint16_t *leaves, const int16_t *entries, const REAL *weights
#define LEAF leaves, entries, weights
static inline void add_leaf(REAL *y, uint32_t head, uint32_t leaf, LEAVES, int32_t weight_bits) {
  const uint32_t mask = ((uint32_t)1 << weight_bits) - 1u;
  const int16_t *entry = entries + leaves[leaf];
  int32_t word;
  (void)head;
  MLOPSC_TREES_SCALAR
  do {
    word = *entry++;
    y[(uint32_t)(word & 0x7fff) >> weight_bits] += weights[(uint32_t)word & mask];
  } while (word >= 0);
}
#else
#define LEAVES const REAL *leaves
#define LEAF leaves
static inline void add_leaf(REAL *y, uint32_t head, uint32_t leaf, LEAVES, int32_t width) {
  const REAL *weights = leaves + leaf * (uint32_t)width;
  y += head >> 24;
  MLOPSC_TREES_SCALAR
  for (int32_t i = 0; i < width; ++i) y[i] += weights[i];
}
#endif

/* Adds up what all trees give for a row. */
static void add_trees(const uint32_t *keys, const uint32_t *heads, const uint32_t *nodes, LEAVES,
                      REAL *y, int32_t count, uint32_t mask, int32_t shift, int32_t leaf_form) {
  MLOPSC_TREES_SCALAR
  for (; count > 0; count -= MLOPSC_TREES_LANES, heads += 2 * MLOPSC_TREES_LANES) {
#if MLOPSC_TREES_LANES > 1
    const uint32_t *starts[MLOPSC_TREES_LANES];
    int32_t places[MLOPSC_TREES_LANES];
    for (int32_t lane = 0; lane < MLOPSC_TREES_LANES; ++lane) {
      starts[lane] = nodes + WORDS * (heads[lane < count ? 2 * lane : 0] & 0xffffffu);
      places[lane] = lane < count ? 0 : -1;
    }
    find_leaves(keys, starts, places, mask, shift);
    for (int32_t lane = 0; lane < MLOPSC_TREES_LANES && lane < count; ++lane)
      add_leaf(y, heads[2 * lane], heads[2 * lane + 1] + (uint32_t)places[lane], LEAF, leaf_form);
#else
    const uint32_t *start = nodes + WORDS * (SHARED ? heads[0] : heads[0] & 0xffffffu);
    uint32_t leaf = heads[1] + (uint32_t)find_leaf(keys, start, mask, shift);
    add_leaf(y, heads[0], leaf, LEAF, leaf_form);
#endif
  }
}

#if SHARED
MLOPSC_SHARED(NAME, REAL) {
#else
MLOPSC_DIRECT(NAME, REAL) {
#endif
  const uint32_t mask = ((uint32_t)1 << column_bits) - 1u;
  MLOPSC_TREES_SCALAR
  for (int32_t row = 0; row < rows; ++row, keys += columns, y += targets) {
    MLOPSC_TREES_SCALAR
    for (int32_t i = 0; i < targets; ++i) y[i] = 0;
    add_trees(keys, trees, nodes, LEAF, y, count, mask, place_shift, leaf_form);
  }
}
