/* Functions of one element with Helium: see mlopsc_micro.h. */
#include <arm_mve.h>

#include "mlopsc_micro.h"

void mlopsc_table_s8(const int8_t *x, const int8_t *table, int8_t *y, int32_t elements) {
  const uint8x16_t top = vdupq_n_u8(128);
  for (int32_t left = elements; left > 0; left -= 16) {
    const mve_pred16_t lanes = vctp8q((uint32_t)left);
    const uint8x16_t index = veorq_u8(vreinterpretq_u8_s8(vldrbq_z_s8(x, lanes)), top);
    vstrbq_p_s8(y, vldrbq_gather_offset_z_s8(table, index, lanes), lanes);
    x += 16;
    y += 16;
  }
}
