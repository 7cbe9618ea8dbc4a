// Sums over rows in two stages with a fixed order: Ops::column_sum, and the gradients of biases.
#pragma once
#include "common.cuh"

// Rows of one partial sum.
constexpr int SUM_ROWS = 16;

// (rows, width) to (rows / SUM_ROWS, width). Grid: columns / 128, row groups.
KERNEL(128, column_sum, int rows, int width, In x, float* partial) {
    int column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= width) return;
    int first = blockIdx.y * SUM_ROWS, last = min(first + SUM_ROWS, rows);
    float sum = 0.0f;
    for (int row = first; row < last; row++) {
        float value[1];
        x.read<1>(size_t(row) * width + column, value);
        sum += value[0];
    }
    partial[size_t(blockIdx.y) * width + column] = sum;
}

// (parts, width) to (width), spread over up to three outputs of `each` columns. A block takes 32 columns with 8 threads
// each. Shared memory: 256 floats.
KERNEL(256, column_reduce, int parts, int width, const float* partial, int each, float* out0, float* out1,
       float* out2) {
    SHARED(float, sums);
    int lane = threadIdx.x % 32, group = threadIdx.x / 32;
    int column = blockIdx.x * 32 + lane;
    float sum = 0.0f;
    if (column < width) {
        for (int part = group; part < parts; part += 8) sum += partial[size_t(part) * width + column];
    }
    sums[group * 32 + lane] = sum;
    __syncthreads();
    if (group == 0 && column < width) {
        for (int other = 1; other < 8; other++) sum += sums[other * 32 + lane];
        int which = column / each;
        float* out = which == 0 ? out0 : which == 1 ? out1 : out2;
        out[column - which * each] = sum;
    }
}
