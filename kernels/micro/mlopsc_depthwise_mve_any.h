/* Depthwise convolution with Helium: see mlopsc_micro.h. Lanes are four neighbours of a row.
 *
 * Weights: [channels_out][kernel_height][kernel_width]. The scratch holds one plane of the input with
 * its border, so that no tap is checked and the output may replace the input. Of 4 bits: the first of two in the lower half of a
 * byte; those of a channel are widened to the end of the scratch. */
#include "mlopsc_micro.h"
#include "mlopsc_micro_mve.h"
#include "mlopsc_micro_plane.h"
#include "mlopsc_micro_weights.h"

#define LANES 4

/* Copy one channel of the input into the middle of the plane. */
static void fill(const int8_t *x, int8_t *plane, const mlopsc_conv_shape *s) {
  const int32_t width = mlopsc_plane_width(s);
  const int32_t right = width - s->pad_left, below = mlopsc_plane_height(s) - s->pad_top;
  const int32_t columns = s->width_in < right ? s->width_in : right;
  const int32_t rows = s->height_in < below ? s->height_in : below;
  plane += s->pad_top * width + s->pad_left;
  for (int32_t row = 0; row < rows; ++row) {
    const int8_t *from = x + row * s->width_in;
    int8_t *to = plane + row * width;
    for (int32_t left = columns; left > 0; left -= 16) {
      const mve_pred16_t lanes = vctp8q((uint32_t)left);
      vstrbq_p_s8(to, vldrbq_z_s8(from, lanes), lanes);
      from += 16;
      to += 16;
    }
  }
}

/* Weights and, 12 and 16 bytes further, what else takes a register only when it is due. */
typedef struct {
  int8_t w[12];
  int32_t left_shift, zero_out;
} kernel_3x3;

/* The inner loops of 3 x 3 kernels without dilation are in assembly because compilers do not keep to
 * the registers that there are. Column j of the kernel, for the upper (q0) and the lower row (q1) of
 * results: `at` is where in the rows of the plane. */
#define COLUMN(j, at)                  \
  "ldrsb %[u], [%[w], #" j             \
  "]\n\t"                              \
  "ldrsb %[v], [%[w], #" j             \
  "+3]\n\t"                            \
  "vldrb.s32 q2, [%[x0]" at            \
  "\n\t"                               \
  "vmla.s32 q0, q2, %[u]\n\t"          \
  "vldrb.s32 q2, [%[x1]" at            \
  "\n\t"                               \
  "ldrsb %[t], [%[w], #" j             \
  "+6]\n\t"                            \
  "vmla.s32 q1, q2, %[u]\n\t"          \
  "vmla.s32 q0, q2, %[v]\n\t"          \
  "vldrb.s32 q2, [%[x2]" at            \
  "\n\t"                               \
  "vmla.s32 q1, q2, %[v]\n\t"          \
  "vmla.s32 q0, q2, %[t]\n\t"          \
  "vldrb.s32 q2, [%[x3]" at            \
  "\n\t"                               \
  "vmla.s32 q1, q2, %[t]\n\t"

/* Two rows of results with strides of 1, which share what they load. */
static inline void two_rows(const int8_t *x0, int32_t width, const kernel_3x3 *w, int32x4_t bias,
                            int32x4_t multiplier, int8_t *y, int32_t columns,
                            const mlopsc_mve_output *output) {
  const int8_t *x1 = x0 + width, *x2 = x1 + width, *x3 = x2 + width;
  int8_t *z = y + columns;
  const int32x4_t zero = vdupq_n_s32(output->zero_out);
  int32_t t = columns, u, v;
  __asm__ volatile("dlstp.32 lr, %[t]\n"
          "1:\n\t"
          "vmov q0, %q[bias]\n\t"
          "vmov q1, %q[bias]\n\t" COLUMN("1", ", #1]") COLUMN("2", ", #2]") COLUMN("0", "], #4")
          "ldr %[t], [%[w], #12]\n\t"
          "vqshl.s32 q0, %[t]\n\t"
          "vqshl.s32 q1, %[t]\n\t"
          "vrmulh.s32 q0, q0, %q[m]\n\t"
          "vrmulh.s32 q1, q1, %q[m]\n\t"
          "vadd.i32 q0, q0, %q[zero]\n\t"
          "vadd.i32 q1, q1, %q[zero]\n\t"
          "vmax.s32 q0, q0, %q[low]\n\t"
          "vmax.s32 q1, q1, %q[low]\n\t"
          "vmin.s32 q0, q0, %q[high]\n\t"
          "vmin.s32 q1, q1, %q[high]\n\t"
          "vstrb.32 q0, [%[y]], #4\n\t"
          "vstrb.32 q1, [%[z]], #4\n\t"
          "letp lr, 1b\n"
          : [x0] "+l"(x0), [x1] "+l"(x1), [x2] "+l"(x2), [x3] "+l"(x3), [y] "+l"(y), [z] "+l"(z),
            [t] "+r"(t), [u] "=&r"(u), [v] "=&r"(v)
          : [w] "r"(w), [bias] "w"(bias), [m] "w"(multiplier), [zero] "w"(zero),
            [low] "w"(output->low), [high] "w"(output->high)
          : "lr", "q0", "q1", "q2", "memory");
}

/* Column j of the kernel for one row of results (q0), whose elements lie at `offsets`. */
#define COLUMN_APART(j, offsets)             \
  "ldrsb %[t], [%[w], #" j                   \
  "]\n\t"                                    \
  "vldrb.s32 q1, [%[x0], %q[" offsets        \
  "]]\n\t"                                   \
  "ldrsb %[u], [%[w], #" j                   \
  "+3]\n\t"                                  \
  "vmla.s32 q0, q1, %[t]\n\t"                \
  "vldrb.s32 q1, [%[x1], %q[" offsets        \
  "]]\n\t"                                   \
  "ldrsb %[t], [%[w], #" j                   \
  "+6]\n\t"                                  \
  "vmla.s32 q0, q1, %[u]\n\t"                \
  "vldrb.s32 q1, [%[x2], %q[" offsets        \
  "]]\n\t"                                   \
  "vmla.s32 q0, q1, %[t]\n\t"

/* A row of results with any stride. Not merged into the loop over rows, where GCC finds no registers
 * for all of the operands. */
static MLOPSC_MVE_APART void row_apart(const int8_t *x0, int32_t width, const kernel_3x3 *w,
                                       int32_t bias, int32x4_t multiplier, int8_t *y,
                                       int32_t columns, int32_t stride,
                                       const mlopsc_mve_output *output) {
  const int8_t *x1 = x0 + width, *x2 = x1 + width;
  const uint32x4_t at0 = vmulq_n_u32(vidupq_n_u32(0, 1), (uint32_t)stride);
  const uint32x4_t at1 = vaddq_n_u32(at0, 1), at2 = vaddq_n_u32(at0, 2);
  int32_t t = columns, u;
  __asm__ volatile("dlstp.32 lr, %[t]\n"
          "1:\n\t"
          "vdup.32 q0, %[bias]\n\t" COLUMN_APART("0", "at0") COLUMN_APART("1", "at1")
              COLUMN_APART("2", "at2")
          "ldrd %[t], %[u], [%[w], #12]\n\t"
          "vqshl.s32 q0, %[t]\n\t"
          "add %[x0], %[x0], %[step]\n\t"
          "vrmulh.s32 q0, q0, %q[m]\n\t"
          "add %[x1], %[x1], %[step]\n\t"
          "vadd.i32 q0, q0, %[u]\n\t"
          "add %[x2], %[x2], %[step]\n\t"
          "vmax.s32 q0, q0, %q[low]\n\t"
          "vmin.s32 q0, q0, %q[high]\n\t"
          "vstrb.32 q0, [%[y]], #4\n\t"
          "letp lr, 1b\n"
          : [x0] "+r"(x0), [x1] "+r"(x1), [x2] "+r"(x2), [y] "+l"(y), [t] "+r"(t), [u] "=&r"(u)
          : [w] "r"(w), [bias] "r"(bias), [step] "r"(LANES * stride), [m] "w"(multiplier),
            [low] "w"(output->low), [high] "w"(output->high), [at0] "w"(at0), [at1] "w"(at1),
            [at2] "w"(at2)
          : "lr", "q0", "q1", "memory");
}

/* One channel of a 3 x 3 kernel without dilation. */
static MLOPSC_MVE_APART void plane_3x3(const int8_t *plane, const int8_t *w, int32_t bias,
                                       int32_t multiplier, int8_t *y, const mlopsc_conv_shape *s) {
  const mlopsc_mve_output output =
      mlopsc_mve_output_of(s->left_shift, s->zero_out, s->low, s->high);
  const int32x4_t start = vdupq_n_s32(bias), factor = vdupq_n_s32(multiplier);
  const int32_t columns = s->width_out, width = mlopsc_plane_width(s);
  const kernel_3x3 kernel = {{w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7], w[8], 0, 0, 0},
                             s->left_shift,
                             s->zero_out};
  if (s->stride_height == 1 && s->stride_width == 1 && s->height_out > 1) {
    for (int32_t left = s->height_out; left > 0; left -= 2) {
      if (left == 1) { /* the last row of an odd number comes with the one before it once more */
        plane -= width;
        y -= columns;
      }
      two_rows(plane, width, &kernel, start, factor, y, columns, &output);
      plane += 2 * width;
      y += 2 * columns;
    }
  } else {
    for (int32_t left = s->height_out; left > 0; --left) {
      row_apart(plane, width, &kernel, bias, factor, y, columns, s->stride_width, &output);
      plane += s->stride_height * width;
      y += columns;
    }
  }
}

/* One channel of any kernel. */
static MLOPSC_MVE_APART void plane_any(const int8_t *plane, const int8_t *w, int32_t bias,
                                       int32_t multiplier, int8_t *y,
                                       const mlopsc_conv_shape *s) {
  const mlopsc_mve_output output =
      mlopsc_mve_output_of(s->left_shift, s->zero_out, s->low, s->high);
  const int32x4_t factor = vdupq_n_s32(multiplier), start = vdupq_n_s32(bias);
  const uint32x4_t offsets = vmulq_n_u32(vidupq_n_u32(0, 1), (uint32_t)s->stride_width);
  const int32_t width = mlopsc_plane_width(s);
  for (int32_t row = 0; row < s->height_out; ++row) {
    const int8_t *x = plane + row * s->stride_height * width;
    for (int32_t column = 0; column < s->width_out; column += LANES) {
      const mve_pred16_t lanes = vctp32q((uint32_t)(s->width_out - column));
      const int8_t *weight = w;
      int32x4_t a = start;
      for (int32_t i = 0; i < s->kernel_height; ++i) {
        const int8_t *tap = x + column * s->stride_width + i * s->dilation_height * width;
        for (int32_t j = 0; j < s->kernel_width; ++j) {
          a = vmlaq_n_s32(a, vldrbq_gather_offset_z_s32(tap, offsets, lanes), *weight++);
          tap += s->dilation_width;
        }
      }
      vstrbq_p_s32(y + column, mlopsc_mve_result(a, factor, output), lanes);
    }
    y += s->width_out;
  }
}

void NAME(const int8_t *x, const int8_t *w, const int32_t *bias,
                                         const int32_t *multiplier, int8_t *y, void *scratch,
                                         const mlopsc_conv_shape *shape) {
  const mlopsc_conv_shape s = *shape;
  const int32_t repeat = s.channels_out / s.channels_in;
  const int32_t taps = s.kernel_height * s.kernel_width;
  const int32_t is_3x3 = s.kernel_height == 3 && s.kernel_width == 3 && s.dilation_height == 1 &&
                         s.dilation_width == 1;
  int8_t *const plane = (int8_t *)scratch;
  int8_t *const buffer = plane + mlopsc_plane_height(&s) * mlopsc_plane_width(&s);
  mlopsc_plane_border(&s, plane);
  for (int32_t n = 0; n < s.channels_out; ++n) {
    const int8_t *const weights = mlopsc_wide_weights(w, n * taps, taps, buffer);
    if (n % repeat == 0) fill(x + n / repeat * s.height_in * s.width_in, plane, &s);
    if (is_3x3 != 0) {
      plane_3x3(plane, weights, bias[n], multiplier[n], y, &s);
    } else {
      plane_any(plane, weights, bias[n], multiplier[n], y, &s);
    }
    y += s.height_out * s.width_out;
  }
}
