/* Pooling over regions of interest, float32: see ONNX's RoiAlign and MaxRoiPool. */
#ifndef MLOPSC_ROI_H
#define MLOPSC_ROI_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* x is [batch, channels, height, width], rois [count, 4] as x1, y1, x2, y2; batches holds int64 if
 * `wide`, else int32. A batch outside the input gives zeros. */
void mlopsc_roi_align(const float *x, const float *rois, const void *batches, float *out,
                      int32_t batch, int32_t channels, int32_t height, int32_t width,
                      int32_t count, int32_t out_h, int32_t out_w, int32_t ratio,
                      int32_t half_pixel, int32_t largest, int32_t wide, float scale);

/* rois is [count, 5] as batch, x1, y1, x2, y2. Bins without a pixel give 0. */
void mlopsc_max_roi_pool(const float *x, const float *rois, float *out, int32_t batch,
                         int32_t channels, int32_t height, int32_t width, int32_t count,
                         int32_t out_h, int32_t out_w, float scale);

#ifdef __cplusplus
}
#endif

#endif
