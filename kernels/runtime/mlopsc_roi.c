/* Pooling over regions of interest, float32: see mlopsc_roi.h. */
#include "mlopsc_roi.h"
#include "mlopsc_math_bits.h"

#define MAX_GRID 4096 /* samples per bin and axis, whatever size a region claims */

/* The integer part of a number in the range of int32, and of others its nearest bound. */
static int32_t floor_int(float x) {
  if (!(x > -2147483000.0f)) return -2147483647;
  if (x > 2147483000.0f) return 2147483647;
  int32_t i = (int32_t)x;
  return (float)i > x ? i - 1 : i;
}

static int32_t ceil_int(float x) { return -floor_int(-x); }

static int32_t clamp(int32_t i, int32_t low, int32_t high) {
  return i < low ? low : i > high ? high : i;
}

/* Interpolated value at (y, x), or the largest weighted corner; outside the image 0. */
static float sample(const float *image, int32_t height, int32_t width, float y, float x,
                    int32_t largest) {
  if (!(y >= -1.0f && y <= (float)height && x >= -1.0f && x <= (float)width)) return 0.0f;
  if (y <= 0.0f) y = 0.0f;
  if (x <= 0.0f) x = 0.0f;
  int32_t top = (int32_t)y, left = (int32_t)x, bottom = top + 1, right = left + 1;
  if (top >= height - 1) {
    top = bottom = height - 1;
    y = (float)top;
  }
  if (left >= width - 1) {
    left = right = width - 1;
    x = (float)left;
  }
  float down = y - (float)top, across = x - (float)left;
  float up = 1.0f - down, back = 1.0f - across;
  float a = up * back * image[top * width + left], b = up * across * image[top * width + right];
  float c = down * back * image[bottom * width + left];
  float d = down * across * image[bottom * width + right];
  if (!largest) return a + b + c + d;
  float m = a;
  if (b > m) m = b;
  if (c > m) m = c;
  return d > m ? d : m;
}

void mlopsc_roi_align(const float *x, const float *rois, const void *batches, float *out,
                      int32_t batch, int32_t channels, int32_t height, int32_t width,
                      int32_t count, int32_t out_h, int32_t out_w, int32_t ratio,
                      int32_t half_pixel, int32_t largest, int32_t wide, float scale) {
  float shift = half_pixel ? 0.5f : 0.0f;
  for (int32_t r = 0; r < count; ++r) {
    int64_t n = wide ? ((const int64_t *)batches)[r] : ((const int32_t *)batches)[r];
    const float *box = rois + 4 * r;
    float x1 = box[0] * scale - shift, y1 = box[1] * scale - shift;
    float w = box[2] * scale - shift - x1, h = box[3] * scale - shift - y1;
    if (!half_pixel) { /* at least one pixel */
      if (w < 1.0f) w = 1.0f;
      if (h < 1.0f) h = 1.0f;
    }
    float bin_h = h / (float)out_h, bin_w = w / (float)out_w;
    int32_t grid_h = ratio > 0 ? ratio : h > 0.0f ? clamp(ceil_int(bin_h), 0, MAX_GRID) : 0;
    int32_t grid_w = ratio > 0 ? ratio : w > 0.0f ? clamp(ceil_int(bin_w), 0, MAX_GRID) : 0;
    float points = (float)(grid_h * grid_w > 0 ? grid_h * grid_w : 1);
    for (int32_t c = 0; c < channels; ++c)
      for (int32_t i = 0; i < out_h; ++i)
        for (int32_t j = 0; j < out_w; ++j, ++out) {
          float sum = 0.0f;
          int found = 0;
          if (n >= 0 && n < batch) {
            const float *image = x + ((int64_t)n * channels + c) * height * width;
            for (int32_t p = 0; p < grid_h; ++p)
              for (int32_t q = 0; q < grid_w; ++q) {
                float at_y = y1 + (float)i * bin_h + ((float)p + 0.5f) * bin_h / (float)grid_h;
                float at_x = x1 + (float)j * bin_w + ((float)q + 0.5f) * bin_w / (float)grid_w;
                float value = sample(image, height, width, at_y, at_x, largest);
                if (!largest) {
                  sum += value;
                } else if (!found || value > sum) {
                  sum = value;
                }
                found = 1;
              }
          }
          *out = largest ? sum : sum / points;
        }
  }
}

void mlopsc_max_roi_pool(const float *x, const float *rois, float *out, int32_t batch,
                         int32_t channels, int32_t height, int32_t width, int32_t count,
                         int32_t out_h, int32_t out_w, float scale) {
  for (int32_t r = 0; r < count; ++r) {
    const float *box = rois + 5 * r;
    int32_t n = floor_int(box[0]);
    int32_t x1 = floor_int(box[1] * scale + 0.5f), y1 = floor_int(box[2] * scale + 0.5f);
    int32_t x2 = floor_int(box[3] * scale + 0.5f), y2 = floor_int(box[4] * scale + 0.5f);
    float h = (float)((int64_t)y2 - y1 + 1), w = (float)((int64_t)x2 - x1 + 1);
    if (h < 1.0f) h = 1.0f;
    if (w < 1.0f) w = 1.0f;
    float bin_h = h / (float)out_h, bin_w = w / (float)out_w;
    for (int32_t c = 0; c < channels; ++c)
      for (int32_t i = 0; i < out_h; ++i)
        for (int32_t j = 0; j < out_w; ++j, ++out) {
          int64_t top = (int64_t)floor_int((float)i * bin_h) + y1;
          int64_t bottom = (int64_t)ceil_int((float)(i + 1) * bin_h) + y1;
          int64_t left = (int64_t)floor_int((float)j * bin_w) + x1;
          int64_t right = (int64_t)ceil_int((float)(j + 1) * bin_w) + x1;
          float best = 0.0f;
          int found = 0;
          if (top < 0) top = 0;
          if (left < 0) left = 0;
          if (bottom > height) bottom = height;
          if (right > width) right = width;
          if (n >= 0 && n < batch) {
            const float *image = x + ((int64_t)n * channels + c) * height * width;
            for (int64_t p = top; p < bottom; ++p)
              for (int64_t q = left; q < right; ++q)
                if (!found || image[p * width + q] > best) {
                  best = image[p * width + q];
                  found = 1;
                }
          }
          *out = best;
        }
  }
}
