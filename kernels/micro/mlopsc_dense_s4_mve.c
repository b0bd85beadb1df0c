/* Product with constant weights with Helium, weights of 4 bits: see mlopsc_micro.h. */
#define MLOPSC_WEIGHT_BITS 4
#define NAME mlopsc_dense_s4
#include "mlopsc_dense_mve_any.h"
