/* Keys of features from searches among splits: see mlopsc_tree_words.h. */
#define NAME mlopsc_tree_keys_rank_f32
#define REAL float
#include "mlopsc_tree_keys_rank_body.h"
