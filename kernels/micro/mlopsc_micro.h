/* Kernels for 8-bit integer models on microcontrollers: whole operators of a model.
 *
 * docs/integer-semantics.md defines every result bit for bit. Tensors are dense and in ONNX's order
 * (channels, rows, columns; the batch is 1). Weights come in the order that the implementation
 * packs them in (src/mlopsc/lower/micro.py says which, and how much scratch it needs). Nothing here
 * allocates, keeps state or calls anything but mem*. Machines are little-endian; scratch is aligned
 * to 4 bytes. Every variant of [hardware] micro gives the same functions, in files of its own. */
#ifndef MLOPSC_MICRO_H
#define MLOPSC_MICRO_H

#include <stdint.h>

typedef struct {
  int32_t channels_in, height_in, width_in;
  int32_t channels_out, height_out, width_out;
  int32_t kernel_height, kernel_width;
  int32_t stride_height, stride_width;
  int32_t dilation_height, dilation_width;
  int32_t pad_top, pad_left; /* what is below and to the right follows from the sizes */
  int32_t zero_in;           /* zero point of the input: the value of the border */
  int32_t zero_out, low, high, left_shift;
  int32_t taps; /* of the kernel, gathered at a time: bounds the scratch (convolution only) */
} mlopsc_conv_shape;

typedef struct {
  int32_t rows, columns_in, columns_out; /* y[rows][columns_out] = x[rows][columns_in] w */
  int32_t zero_out, low, high, left_shift;
} mlopsc_dense_shape;

/* mlopsc_conv_s8: one group. y may start where x starts if the kernel is 1x1 with stride 1 and no
 * border, whatever the number of channels. mlopsc_depthwise_s8: output channel n reads input channel
 * n / (channels_out / channels_in); y may start where x starts if the channels are as many and the
 * output is not larger. mlopsc_dense_s8: y and x are apart.
 *
 * bias holds what does not depend on the input: b' of docs/integer-semantics.md. */
void mlopsc_conv_s8(const int8_t *x, const int8_t *w, const int32_t *bias,
                    const int32_t *multiplier, int8_t *y, void *scratch,
                    const mlopsc_conv_shape *shape);
void mlopsc_depthwise_s8(const int8_t *x, const int8_t *w, const int32_t *bias,
                         const int32_t *multiplier, int8_t *y, void *scratch,
                         const mlopsc_conv_shape *shape);
void mlopsc_dense_s8(const int8_t *x, const int8_t *w, const int32_t *bias,
                     const int32_t *multiplier, int8_t *y, void *scratch,
                     const mlopsc_dense_shape *shape);

/* The same with two weights in a byte. */
void mlopsc_conv_s4(const int8_t *x, const int8_t *w, const int32_t *bias,
                    const int32_t *multiplier, int8_t *y, void *scratch,
                    const mlopsc_conv_shape *shape);
void mlopsc_depthwise_s4(const int8_t *x, const int8_t *w, const int32_t *bias,
                         const int32_t *multiplier, int8_t *y, void *scratch,
                         const mlopsc_conv_shape *shape);
void mlopsc_dense_s4(const int8_t *x, const int8_t *w, const int32_t *bias,
                     const int32_t *multiplier, int8_t *y, void *scratch,
                     const mlopsc_dense_shape *shape);

typedef struct {
  int32_t elements;
  int32_t multiplier_a, multiplier_b, constant, shift; /* (a ma + b mb + c) >> k */
  int32_t low, high;
} mlopsc_add_shape;

/* y may be a or b. */
void mlopsc_add_s8(const int8_t *a, const int8_t *b, int8_t *y, const mlopsc_add_shape *shape);

/* y may be x. Average over rows of `count` adjacent elements (global average pooling). */
typedef struct {
  int32_t rows, count;
  int32_t zero_in, zero_out, low, high, multiplier, left_shift;
} mlopsc_mean_shape;

void mlopsc_mean_s8(const int8_t *x, int8_t *y, const mlopsc_mean_shape *shape);

/* y[i] = table[x[i] + 128]; y may be x. */
void mlopsc_table_s8(const int8_t *x, const int8_t *table, int8_t *y, int32_t elements);

typedef struct {
  int32_t rows, count;
  int32_t zero_out, scale; /* c of the definition */
} mlopsc_softmax_shape;

/* y may be x. */
void mlopsc_softmax_s8(const int8_t *x, const uint32_t *table, int8_t *y,
                       const mlopsc_softmax_shape *shape);

/* Patches of a tensor: number 0 begins at first_row and first_column of it, which may be less than
 * 0, the next ones step further, grid_columns of them beside each other. */
typedef struct {
  int32_t channels, rows, columns; /* of the patch, in this order */
  int32_t grid_columns;
  int32_t step_rows, step_columns;
  int32_t first_row, first_column;
  int32_t height, width; /* of the tensor */
  int32_t fill;          /* what elements outside of it are */
  int32_t channels_last; /* whether the tensor is rows, columns, channels */
} mlopsc_patch_shape;

/* y is patch *number of the tensor x. */
void mlopsc_extract_s8(const int8_t *x, const int64_t *number, int8_t *y,
                       const mlopsc_patch_shape *shape);
/* y is x, patch *number of a tensor, with the elements outside of that set to fill; y may be x. */
void mlopsc_border_s8(const int8_t *x, const int64_t *number, int8_t *y,
                      const mlopsc_patch_shape *shape);

#endif
