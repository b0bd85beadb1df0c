/* Calls each kernel for microcontrollers with arguments from one table, for tests and benchmarks. */
#include "mlopsc_micro.h"

typedef struct {
  const int8_t *x, *w; /* w: weights, second operand or table of bytes */
  const int32_t *bias, *multiplier;
  int8_t *y;
  void *scratch;
  const void *shape;
  const uint32_t *exponentials;
} micro_call;

void call_conv(const micro_call *c) {
  mlopsc_conv_s8(c->x, c->w, c->bias, c->multiplier, c->y, c->scratch,
                 (const mlopsc_conv_shape *)c->shape);
}

void call_depthwise(const micro_call *c) {
  mlopsc_depthwise_s8(c->x, c->w, c->bias, c->multiplier, c->y, c->scratch,
                      (const mlopsc_conv_shape *)c->shape);
}

void call_dense(const micro_call *c) {
  mlopsc_dense_s8(c->x, c->w, c->bias, c->multiplier, c->y, c->scratch,
                  (const mlopsc_dense_shape *)c->shape);
}

void call_conv_s4(const micro_call *c) {
  mlopsc_conv_s4(c->x, c->w, c->bias, c->multiplier, c->y, c->scratch,
                 (const mlopsc_conv_shape *)c->shape);
}

void call_depthwise_s4(const micro_call *c) {
  mlopsc_depthwise_s4(c->x, c->w, c->bias, c->multiplier, c->y, c->scratch,
                      (const mlopsc_conv_shape *)c->shape);
}

void call_dense_s4(const micro_call *c) {
  mlopsc_dense_s4(c->x, c->w, c->bias, c->multiplier, c->y, c->scratch,
                  (const mlopsc_dense_shape *)c->shape);
}

void call_add(const micro_call *c) {
  mlopsc_add_s8(c->x, c->w, c->y, (const mlopsc_add_shape *)c->shape);
}

void call_mean(const micro_call *c) {
  mlopsc_mean_s8(c->x, c->y, (const mlopsc_mean_shape *)c->shape);
}

void call_table(const micro_call *c) {
  mlopsc_table_s8(c->x, c->w, c->y, *(const int32_t *)c->shape);
}

void call_softmax(const micro_call *c) {
  mlopsc_softmax_s8(c->x, c->exponentials, c->y, (const mlopsc_softmax_shape *)c->shape);
}
