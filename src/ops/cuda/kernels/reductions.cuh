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

// Partial sums of (parts, width), to be added up to up to three outputs of `each` columns. `first`: its first block.
struct Reduction {
    const float* partial;
    float* out[3];
    int parts, width, each;
    uint32_t first;
};

// All reductions of a list. A block takes 32 columns with 8 threads each. Grid: the blocks of all. Shared memory: 256 floats.
KERNEL(256, column_reduce, const Reduction* items, int count) {
    SHARED(float, sums);
    const Reduction& item = items[item_of(items, count, blockIdx.x)];
    int lane = threadIdx.x % 32, group = threadIdx.x / 32;
    int column = (blockIdx.x - item.first) * 32 + lane;
    float sum = 0.0f;
    if (column < item.width) {
        for (int part = group; part < item.parts; part += 8) sum += item.partial[size_t(part) * item.width + column];
    }
    sums[group * 32 + lane] = sum;
    __syncthreads();
    if (group == 0 && column < item.width) {
        for (int other = 1; other < 8; other++) sum += sums[other * 32 + lane];
        item.out[column / item.each][column % item.each] = sum;
    }
}
