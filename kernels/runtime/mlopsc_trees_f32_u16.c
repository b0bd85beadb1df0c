/* Decision trees: see mlopsc_trees.h. */
#define NAME mlopsc_trees_f32_u16
#define REAL float
#define WORD uint16_t
#include "mlopsc_trees_body.h"
