/* Convolution in portable C, weights of 8 bits: see mlopsc_micro.h. */
#define MLOPSC_WEIGHT_BITS 8
#define NAME mlopsc_conv_s8
#include "mlopsc_conv_portable_any.h"
