/* Sums of trees of words: see mlopsc_tree_words.h. */
#define NAME mlopsc_tree_short_direct_f64
#define REAL double
#define LONG 0
#define SHARED 0
#include "mlopsc_tree_words_body.h"
