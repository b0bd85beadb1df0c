/* TopK: see mlopsc_topk_body.h. */
#include <stdint.h>

#define NAME mlopsc_topk_u64
#define ELEMENT uint64_t
#define IS_NAN(v) 0
#include "mlopsc_topk_body.h"
