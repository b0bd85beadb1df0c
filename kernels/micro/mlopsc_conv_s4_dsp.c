/* Convolution with the DSP extension, weights of 4 bits: see mlopsc_micro.h. */
#define MLOPSC_WEIGHT_BITS 4
#define NAME mlopsc_conv_s4
#include "mlopsc_conv_dsp_any.h"
