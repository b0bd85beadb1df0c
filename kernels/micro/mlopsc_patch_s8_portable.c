/* Patches: see mlopsc_micro.h. */
#include "mlopsc_micro.h"

/* The rows and columns of a patch that lie inside of the tensor. */
typedef struct {
  int32_t row, column; /* of the tensor, at the start of the patch */
  int32_t top, bottom, left, right;
} place;

static int32_t between(int32_t value, int32_t high) {
  return value < 0 ? 0 : value > high ? high : value;
}

static place locate(int64_t number, const mlopsc_patch_shape *s) {
  const int32_t patch = (int32_t)number;
  place p;
  p.row = s->first_row + patch / s->grid_columns * s->step_rows;
  p.column = s->first_column + patch % s->grid_columns * s->step_columns;
  p.top = between(-p.row, s->rows);
  p.bottom = between(s->height - p.row, s->rows);
  p.left = between(-p.column, s->columns);
  p.right = between(s->width - p.column, s->columns);
  return p;
}

static int8_t *fill(int8_t *y, int32_t count, int8_t value) {
  while (count-- > 0) *y++ = value;
  return y;
}

void mlopsc_extract_s8(const int8_t *x, const int64_t *number, int8_t *y,
                       const mlopsc_patch_shape *s) {
  const place p = locate(*number, s);
  const int8_t value = (int8_t)s->fill;
  const int32_t next = s->channels_last ? s->channels : 1; /* from a column to the next */
  for (int32_t c = 0; c < s->channels; ++c) {
    const int32_t start = s->channels_last ? c : c * s->height * s->width;
    for (int32_t row = 0; row < s->rows; ++row) {
      if (row < p.top || row >= p.bottom) {
        y = fill(y, s->columns, value);
        continue;
      }
      y = fill(y, p.left, value);
      const int8_t *from = x + start + ((p.row + row) * s->width + p.column + p.left) * next;
      for (int32_t column = p.left; column < p.right; ++column, from += next) *y++ = *from;
      y = fill(y, s->columns - p.right, value);
    }
  }
}

void mlopsc_border_s8(const int8_t *x, const int64_t *number, int8_t *y,
                      const mlopsc_patch_shape *s) {
  const place p = locate(*number, s);
  const int8_t value = (int8_t)s->fill;
  const int32_t size = s->rows * s->columns;
  if (y != x) {
    for (int32_t i = 0; i < s->channels * size; ++i) y[i] = x[i];
  }
  if (p.top == 0 && p.bottom == s->rows && p.left == 0 && p.right == s->columns) return;
  for (int32_t c = 0; c < s->channels; ++c, y += size) {
    fill(y, p.top * s->columns, value);
    fill(y + p.bottom * s->columns, (s->rows - p.bottom) * s->columns, value);
    if (p.left == 0 && p.right == s->columns) continue;
    for (int32_t row = p.top; row < p.bottom; ++row) {
      fill(y + row * s->columns, p.left, value);
      fill(y + row * s->columns + p.right, s->columns - p.right, value);
    }
  }
}
