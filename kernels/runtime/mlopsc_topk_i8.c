/* TopK: see mlopsc_topk_body.h. */
#include <stdint.h>

#define NAME mlopsc_topk_i8
#define ELEMENT int8_t
#define IS_NAN(v) 0
#include "mlopsc_topk_body.h"
