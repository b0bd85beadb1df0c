/* The k largest or smallest elements of every row: one function per element type. */
#ifndef MLOPSC_TOPK_H
#define MLOPSC_TOPK_H

#include <stdint.h>

#define MLOPSC_TOPK(name, element)                                                               \
  void name(const element *x, element *values, int64_t *indices, int32_t outer, int32_t size, \
            int32_t inner, int32_t k, int32_t largest)

#ifdef __cplusplus
extern "C" {
#endif

MLOPSC_TOPK(mlopsc_topk_f32, float);
MLOPSC_TOPK(mlopsc_topk_f64, double);
MLOPSC_TOPK(mlopsc_topk_i8, int8_t);
MLOPSC_TOPK(mlopsc_topk_i16, int16_t);
MLOPSC_TOPK(mlopsc_topk_i32, int32_t);
MLOPSC_TOPK(mlopsc_topk_i64, int64_t);
MLOPSC_TOPK(mlopsc_topk_u8, uint8_t);
MLOPSC_TOPK(mlopsc_topk_u16, uint16_t);
MLOPSC_TOPK(mlopsc_topk_u32, uint32_t);
MLOPSC_TOPK(mlopsc_topk_u64, uint64_t);

#ifdef __cplusplus
}
#endif

#endif
