/* Tangent: see mlopsc_math.h. */
#include "mlopsc_math.h"

float mlopsc_tanf(float x) { return x == 0.0f ? x : mlopsc_sinf(x) / mlopsc_cosf(x); }
