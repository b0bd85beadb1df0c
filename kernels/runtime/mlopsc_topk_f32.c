/* TopK: see mlopsc_topk_body.h. */
#include <stdint.h>

#define NAME mlopsc_topk_f32
#define ELEMENT float
#define IS_NAN(v) ((v) != (v))
#include "mlopsc_topk_body.h"
