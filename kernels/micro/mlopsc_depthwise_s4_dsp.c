/* Depthwise convolution with the DSP extension, weights of 4 bits: see mlopsc_micro.h. */
#define MLOPSC_WEIGHT_BITS 4
#define NAME mlopsc_depthwise_s4
#include "mlopsc_depthwise_dsp_any.h"
