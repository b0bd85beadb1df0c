/* Sums of trees of words: see mlopsc_tree_words.h. */
#define NAME mlopsc_tree_long_direct_f32
#define REAL float
#define LONG 1
#define SHARED 0
#include "mlopsc_tree_words_body.h"
