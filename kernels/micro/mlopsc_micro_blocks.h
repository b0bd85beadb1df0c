/* What convolutions share: blocks of four output positions.
 *
 * Outputs are numbered in the order of memory, so the four of a block are adjacent in every output
 * plane, also where a row ends between them. */
#ifndef MLOPSC_MICRO_BLOCKS_H
#define MLOPSC_MICRO_BLOCKS_H

#include "mlopsc_micro.h"

#define MLOPSC_LANES 4

/* Of the four positions of a block: where the kernel's first tap lies in the input. */
typedef struct {
  int32_t row[MLOPSC_LANES], column[MLOPSC_LANES];
  int32_t count;     /* positions that exist: fewer than four in the last block */
  int32_t neighbours; /* whether all four are in one row */
} mlopsc_block;

/* A 1x1 convolution does not see rows: one row of all positions makes the fewest blocks. */
static inline mlopsc_conv_shape mlopsc_flatten(const mlopsc_conv_shape *shape) {
  mlopsc_conv_shape s = *shape;
  if (s.kernel_height == 1 && s.kernel_width == 1 && s.stride_height == 1 &&
      s.stride_width == 1 && s.height_in == s.height_out && s.width_in == s.width_out) {
    s.width_in = s.width_out = s.height_in * s.width_in;
    s.height_in = s.height_out = 1;
  }
  return s;
}

/* The block that starts at output `first`, which lies at (row, column) of the output. */
static inline void mlopsc_place_block(const mlopsc_conv_shape *s, int32_t first, int32_t row,
                                      int32_t column, mlopsc_block *block) {
  const int32_t left = s->height_out * s->width_out - first;
  block->count = left < MLOPSC_LANES ? left : MLOPSC_LANES;
  block->neighbours = column + MLOPSC_LANES <= s->width_out;
  for (int32_t i = 0; i < MLOPSC_LANES; ++i) {
    block->row[i] = row * s->stride_height - s->pad_top;
    block->column[i] = column * s->stride_width - s->pad_left;
    if (++column == s->width_out) {
      column = 0;
      ++row;
    }
  }
}

/* Whether taps from (down, right) to (down2, right2) of all positions lie in rows of the input in
 * which the positions are neighbours. */
static inline int32_t mlopsc_inside(const mlopsc_conv_shape *s, const mlopsc_block *block,
                                    int32_t down, int32_t right, int32_t down2, int32_t right2) {
  const int32_t row = block->row[0], column = block->column[0];
  return block->neighbours != 0 && row + down >= 0 && row + down2 < s->height_in &&
         column + right >= 0 &&
         column + right2 + (MLOPSC_LANES - 1) * s->stride_width < s->width_in;
}

/* Where the tap (down, right) of position i lies in a plane; -1: in the border, or nowhere. */
static inline int32_t mlopsc_find_tap(const mlopsc_conv_shape *s, const mlopsc_block *block,
                                      int32_t down, int32_t right, int32_t i) {
  const int32_t row = block->row[i] + down, column = block->column[i] + right;
  const int32_t found = i < block->count && row >= 0 && row < s->height_in && column >= 0 &&
                        column < s->width_in;
  return found != 0 ? row * s->width_in + column : -1;
}

#endif
