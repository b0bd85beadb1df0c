/* A copy of one plane of the input with its border: what the taps of all outputs can reach. */
#ifndef MLOPSC_MICRO_PLANE_H
#define MLOPSC_MICRO_PLANE_H

#include "mlopsc_micro.h"

static inline int32_t mlopsc_plane_width(const mlopsc_conv_shape *s) {
  return (s->width_out - 1) * s->stride_width + (s->kernel_width - 1) * s->dilation_width + 1;
}

static inline int32_t mlopsc_plane_height(const mlopsc_conv_shape *s) {
  return (s->height_out - 1) * s->stride_height + (s->kernel_height - 1) * s->dilation_height + 1;
}

/* Fill all of it with the value of the border. */
static inline void mlopsc_plane_border(const mlopsc_conv_shape *s, int8_t *plane) {
  const int32_t size = mlopsc_plane_width(s) * mlopsc_plane_height(s);
  for (int32_t i = 0; i < size; ++i) plane[i] = (int8_t)s->zero_in;
}

/* Copy one plane of the input into the middle of it. */
static inline void mlopsc_plane_fill(const mlopsc_conv_shape *s, const int8_t *x, int8_t *plane) {
  const int32_t width = mlopsc_plane_width(s);
  const int32_t right = width - s->pad_left, below = mlopsc_plane_height(s) - s->pad_top;
  const int32_t columns = s->width_in < right ? s->width_in : right;
  const int32_t rows = s->height_in < below ? s->height_in : below;
  plane += s->pad_top * width + s->pad_left;
  for (int32_t row = 0; row < rows; ++row, plane += width - columns, x += s->width_in - columns) {
    const int8_t *const end = x + columns;
#ifdef __ARM_FEATURE_UNALIGNED /* words, the last one over the end of the one before */
    if (columns >= 4) {
      for (; x < end - 4; x += 4, plane += 4) __builtin_memcpy(plane, x, 4);
      plane += end - x;
      x = end;
      __builtin_memcpy(plane - 4, x - 4, 4);
      continue;
    }
#endif
    while (x != end) *plane++ = *x++;
  }
}

#endif
