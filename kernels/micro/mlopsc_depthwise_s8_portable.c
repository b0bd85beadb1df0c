/* Depthwise convolution in portable C, weights of 8 bits: see mlopsc_micro.h. */
#define MLOPSC_WEIGHT_BITS 8
#define NAME mlopsc_depthwise_s8
#include "mlopsc_depthwise_portable_any.h"
