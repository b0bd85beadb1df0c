/* Sums of decision trees whose nodes are words, for comparisons `x <= split` alone.
 *
 * Keys. Every feature that is compared becomes a column of integers with the same order: x is at
 * most a split exactly if the key of x is at most the split's. Keys are differences of the floats'
 * bits (`bits`), or count the splits of the column below x (`rank`). A column has NaN before all
 * splits (columns from `missing` on) or after them.
 *
 * Nodes. A short node is one word: column, key, place, from the lowest bit on. What stands for its
 * key is chosen so that adding the key of x carries into the place exactly if the comparison does
 * not hold: the two ways are adjacent places, and one addition compares and chooses. A long node is
 * two words, column and place, and the key. A place below zero is a leaf; the others count nodes of
 * the tree, whose first one is the root. A leaf beside a node is a node whose comparison always
 * holds.
 *
 * Trees. A pair of words: its first node (and, in the top 8 bits, the first target of its leaves),
 * and what a place below zero needs to become the number of a leaf.
 *
 * Leaves. `direct`: a leaf is a row of weights for `width` consecutive targets. `shared`: a leaf is
 * a place in `entries`, where its weights follow each other; an entry holds the number of a weight
 * (its lowest `weight_bits`), a target, and in the top bit whether it is the last. Weights are added
 * in the order of the trees. `leaf_form` is `width` or `weight_bits`.
 */
#ifndef MLOPSC_TREE_WORDS_H
#define MLOPSC_TREE_WORDS_H

#include <stdint.h>

#define MLOPSC_DIRECT(name, real)                                                  \
  void name(const uint32_t *keys, const uint32_t *trees, const uint32_t *nodes,               \
            const real *leaves, real *y, int32_t rows, int32_t columns, int32_t targets,      \
            int32_t count, int32_t column_bits, int32_t place_shift, int32_t leaf_form)
#define MLOPSC_SHARED(name, real)                                                  \
  void name(const uint32_t *keys, const uint32_t *trees, const uint32_t *nodes,               \
            const uint16_t *leaves, const int16_t *entries, const real *weights, real *y,     \
            int32_t rows, int32_t columns, int32_t targets, int32_t count, int32_t column_bits, \
            int32_t place_shift, int32_t leaf_form)
#define MLOPSC_RANK(name, real)                                              \
  void name(const real *x, const uint16_t *features, const uint32_t *starts,           \
            const real *splits, uint32_t *keys, int32_t rows, int32_t width, int32_t columns, \
            int32_t missing, int32_t key_shift)

#ifdef __cplusplus
extern "C" {
#endif

/* `lowest` and `highest` are the ordered bits of the least and greatest split, whose differences
 * are multiples of 1 << `drop`. */
void mlopsc_tree_keys_bits_f32(const float *x, const uint16_t *features, uint32_t *keys, int32_t rows,
                               int32_t width, int32_t columns, int32_t missing, int32_t lowest,
                               int32_t highest, int32_t drop, int32_t key_shift);
MLOPSC_RANK(mlopsc_tree_keys_rank_f32, float);
MLOPSC_RANK(mlopsc_tree_keys_rank_f64, double);

MLOPSC_DIRECT(mlopsc_tree_short_direct_f32, float);
MLOPSC_DIRECT(mlopsc_tree_short_direct_f64, double);
MLOPSC_DIRECT(mlopsc_tree_long_direct_f32, float);
MLOPSC_SHARED(mlopsc_tree_short_shared_f32, float);
MLOPSC_SHARED(mlopsc_tree_short_shared_f64, double);
MLOPSC_SHARED(mlopsc_tree_long_shared_f32, float);

#ifdef __cplusplus
}
#endif

#endif
