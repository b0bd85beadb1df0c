/* Sums of trees of words: see mlopsc_tree_words.h. */
#define NAME mlopsc_tree_short_shared_f32
#define REAL float
#define LONG 0
#define SHARED 1
#include "mlopsc_tree_words_body.h"
