/* Depthwise convolution in portable C: see mlopsc_micro.h.
 *
 * Weights: [channels_out][kernel_height][kernel_width]. The scratch holds one plane of the input with
 * its border, so that no tap is checked and the output may replace the input. */
#include "mlopsc_micro_plane.h"
#include "mlopsc_micro_requantize.h"

void mlopsc_depthwise_s8(const int8_t *x, const int8_t *w, const int32_t *bias,
                         const int32_t *multiplier, int8_t *y, void *scratch,
                         const mlopsc_conv_shape *shape) {
  const mlopsc_conv_shape s = *shape;
  const int32_t width = mlopsc_plane_width(&s);
  const int32_t repeat = s.channels_out / s.channels_in;
  const int32_t down = s.stride_height * width, right = s.stride_width;
  int8_t *const plane = (int8_t *)scratch;
  mlopsc_plane_border(&s, plane);
  for (int32_t n = 0; n < s.channels_out; ++n) {
    if (n % repeat == 0) mlopsc_plane_fill(&s, x + n / repeat * s.height_in * s.width_in, plane);
    for (int32_t row = 0; row < s.height_out; ++row)
      for (int32_t column = 0; column < s.width_out; ++column) {
        const int8_t *tap = plane + row * down + column * right, *weight = w;
        int32_t sum = bias[n];
        for (int32_t ky = 0; ky < s.kernel_height; ++ky, tap += s.dilation_height * width)
          for (int32_t kx = 0; kx < s.kernel_width; ++kx)
            sum += *weight++ * tap[kx * s.dilation_width];
        *y++ = mlopsc_requantize(sum, multiplier[n], s.left_shift, s.zero_out, s.low, s.high);
      }
    w += s.kernel_height * s.kernel_width;
  }
}
