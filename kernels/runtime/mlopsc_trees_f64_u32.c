/* Decision trees: see mlopsc_trees.h. */
#define NAME mlopsc_trees_f64_u32
#define REAL double
#define WORD uint32_t
#include "mlopsc_trees_body.h"
