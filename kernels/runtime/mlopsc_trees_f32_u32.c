/* Decision trees: see mlopsc_trees.h. */
#define NAME mlopsc_trees_f32_u32
#define REAL float
#define WORD uint32_t
#include "mlopsc_trees_body.h"
