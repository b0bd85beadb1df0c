/* Decision trees as tables: one function per element type and width of the tables' words.
 *
 * A tree of `trees` is a pair of words: where its root is, and the first target it adds to. A place
 * is the number of a node or, with the top bit set, of a row of `leaves`. A node is three words of
 * `nodes` (how its feature is compared, where to go if that holds, where else) and its entry in
 * `splits`. The first word holds the feature; its top bit says that NaN goes where the comparison
 * holds, the next one that the feature is compared for equality, not for being at most the split.
 * A row of `leaves` holds `width` weights for consecutive targets, added in the order of the trees;
 * NaN stands for none where the least or largest is sought.
 */
#ifndef MLOPSC_TREES_H
#define MLOPSC_TREES_H

#include <stdint.h>

enum { MLOPSC_TREES_SUM = 0, MLOPSC_TREES_MIN = 1, MLOPSC_TREES_MAX = 2 };

#define MLOPSC_TREES(name, real, word)                                                     \
  void name(const real *x, const word *trees, const word *nodes, const real *splits,       \
            const real *leaves, real *y, int32_t rows, int32_t features, int32_t targets, \
            int32_t count, int32_t width, int32_t rule)

#ifdef __cplusplus
extern "C" {
#endif

MLOPSC_TREES(mlopsc_trees_f32_u16, float, uint16_t);
MLOPSC_TREES(mlopsc_trees_f32_u32, float, uint32_t);
MLOPSC_TREES(mlopsc_trees_f64_u16, double, uint16_t);
MLOPSC_TREES(mlopsc_trees_f64_u32, double, uint32_t);

#ifdef __cplusplus
}
#endif

#endif
