// One step of the LSTM recurrence, after its product with W_hh: see ops/lstm.rs for the formulas and the order of rows.
#pragma once
#include "common.cuh"

DEVICE float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// z (rows, 4 width): pre-activations in, gates i, f, g, o out. `before` (rows, width): cells of the step before, or null.
// Grid: elements / 128.
KERNEL(128, lstm_cell, int rows, int width, float* z, const float* before, float* cell, Out h) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= rows * width) return;
    int row = i / width, j = i % width;
    float* gates = z + size_t(row) * 4 * width + j;
    float in = sigmoid(gates[0]), forget = sigmoid(gates[width]);
    float fresh = tanhf(gates[2 * width]), out = sigmoid(gates[3 * width]);
    float c = in * fresh + (before ? forget * before[i] : 0.0f);
    gates[0] = in, gates[width] = forget, gates[2 * width] = fresh, gates[3 * width] = out;
    cell[i] = c;
    float value[1] = {out * tanhf(c)};
    h.write<1>(i, value);
}

// gates (rows, 4 width) to gradients of the pre-activations, `dz`. `dh`, `dc` (rows, width): gradients of this step's h and
// of its cells by the step behind; `dc_before`: of the cells of the step before, or null with `before`.
KERNEL(128, lstm_cell_backward, int rows, int width, const float* z, const float* before, const float* cell,
       const float* dh, const float* dc, float* dc_before, Out dz) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= rows * width) return;
    size_t at = size_t(i / width) * 4 * width + i % width;
    float in = z[at], forget = z[at + width], fresh = z[at + 2 * width], out = z[at + 3 * width];
    float squashed = tanhf(cell[i]);
    float d = dc[i] + dh[i] * out * (1.0f - squashed * squashed);
    float d_in[1] = {d * fresh * in * (1.0f - in)}, d_forget[1] = {0.0f};
    float d_fresh[1] = {d * in * (1.0f - fresh * fresh)}, d_out[1] = {dh[i] * squashed * out * (1.0f - out)};
    if (before) {
        d_forget[0] = d * before[i] * forget * (1.0f - forget);
        dc_before[i] = d * forget;
    }
    dz.write<1>(at, d_in);
    dz.write<1>(at + width, d_forget);
    dz.write<1>(at + 2 * width, d_fresh);
    dz.write<1>(at + 3 * width, d_out);
}
