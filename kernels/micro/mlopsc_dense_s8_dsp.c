/* Product with constant weights with the DSP extension, weights of 8 bits: see mlopsc_micro.h. */
#define MLOPSC_WEIGHT_BITS 8
#define NAME mlopsc_dense_s8
#include "mlopsc_dense_dsp_any.h"
