/* TopK: see mlopsc_topk_body.h. */
#include <stdint.h>

#define NAME mlopsc_topk_u16
#define ELEMENT uint16_t
#define IS_NAN(v) 0
#include "mlopsc_topk_body.h"
