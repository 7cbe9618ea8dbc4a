// The cross-entropy of rows of logits and its gradient: Ops::cross_entropy and Ops::classify, formulas in src/ops/loss.rs.
#pragma once
#include "common.cuh"

// The loss of a row of logits whose instance has one of the labels `first` .. `end`, and its gradient, which is 0 for the others.
// `weights`: of the labels, or null for 1. Called by all lanes of a warp.
DEVICE float cross_entropy_of(const float* x, int classes, int label, int first, int end, const float* weights, float gamma,
                              float total, float* dlogits) {
    int lane = threadIdx.x % WARP;
    float top = -INFINITY;
    for (int j = first + lane; j < end; j += WARP) top = fmaxf(top, x[j]);
    top = warp_max(top);
    float sum = 0.0f;
    for (int j = first + lane; j < end; j += WARP) sum += expf(x[j] - top);
    sum = warp_sum(sum);
    float surprise = logf(sum) - (x[label] - top);
    float p = expf(-surprise), rest = -expm1f(-surprise);
    float counts = 1.0f, slope = 1.0f;
    if (gamma > 0.0f) {
        // At a probability of 1 both are 0 in the limit.
        counts = rest > 0.0f ? powf(rest, gamma) : 0.0f;
        slope = rest > 0.0f ? counts + gamma * p * counts / rest * surprise : 0.0f;
    }
    float scale = (weights ? weights[label] : 1.0f) / total;
    for (int j = lane; j < classes; j += WARP) {
        float q = expf(x[j] - top) / sum - (j == label ? 1.0f : 0.0f);
        dlogits[j] = first <= j && j < end ? scale * slope * q : 0.0f;
    }
    return scale * counts * surprise;
}

// loss[0] and dlogits (rows, classes). One block, a warp per row; the warps' sums are added in order. Shared memory: a float per
// warp.
KERNEL(256, cross_entropy, int rows, int classes, const float* logits, const uint32_t* labels, const float* weights,
       float gamma, float total, float* loss, float* dlogits) {
    SHARED(float, sums);
    int warps = blockDim.x / WARP, warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    float own = 0.0f;
    for (int row = warp; row < rows; row += warps) {
        size_t at = size_t(row) * classes;
        own += cross_entropy_of(logits + at, classes, int(labels[row]), 0, classes, weights, gamma, total, dlogits + at);
    }
    if (lane == 0) sums[warp] = own;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int other = 1; other < warps; other++) own += sums[other];
        loss[0] = own;
    }
}

// Arrays side by side: `second` may be null.
struct Sides {
    float* first;
    float* second;
    int first_width, second_width;

    DEVICE float& at(size_t row, int column) const {
        return column < first_width ? first[row * first_width + column]
                                    : second[row * second_width + column - first_width];
    }
};

// The label of an instance, and the labels of its group: `first` .. `end`.
struct Target {
    uint32_t label, first, end;
};

// Ops::classify without its sums over rows: the vectors after dropout (rows, width), the loss of each row, its dlogits (rows,
// classes), and the gradients of the vectors. Grid: rows. Shared memory: floats for a vector, and twice the classes.
KERNEL(256, classify, int classes, Sides vectors, const float* weight, const float* bias, Mask mask, const Target* targets,
       const float* weights, float gamma, float total, float* dropped, float* losses, float* dlogits, Sides dvectors) {
    SHARED(float, x);
    int width = vectors.first_width + vectors.second_width;
    float* logits = x + width;
    float* slopes = logits + classes;
    int warps = blockDim.x / WARP, warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    size_t row = blockIdx.x;
    for (int column = threadIdx.x; column < width; column += blockDim.x) {
        float value[1] = {vectors.at(row, column)};
        mask.apply<1>(row * width + column, value);
        x[column] = value[0];
        dropped[row * width + column] = value[0];
    }
    __syncthreads();
    for (int j = warp; j < classes; j += warps) {
        float sum = 0.0f;
        for (int column = lane; column < width; column += WARP) sum += x[column] * weight[size_t(j) * width + column];
        sum = warp_sum(sum);
        if (lane == 0) logits[j] = sum + bias[j];
    }
    __syncthreads();
    if (warp == 0) {
        Target target = targets[row];
        float own = cross_entropy_of(logits, classes, int(target.label), int(target.first), int(target.end), weights, gamma,
                                     total, slopes);
        if (lane == 0) losses[row] = own;
    }
    __syncthreads();
    for (int j = threadIdx.x; j < classes; j += blockDim.x) dlogits[row * classes + j] = slopes[j];
    for (int column = threadIdx.x; column < width; column += blockDim.x) {
        float sum[1] = {0.0f};
        for (int j = 0; j < classes; j++) sum[0] += slopes[j] * weight[size_t(j) * width + column];
        mask.apply<1>(row * width + column, sum);
        dvectors.at(row, column) = sum[0];
    }
}

// Its sums over rows: loss[0], dweight (classes, width), dbias (classes). Grid: width / 128, classes.
KERNEL(128, classify_sums, int rows, int classes, int width, const float* dropped, const float* losses,
       const float* dlogits, float* loss, float* dweight, float* dbias) {
    int column = blockIdx.x * blockDim.x + threadIdx.x, label = blockIdx.y;
    float sum = 0.0f;
    if (column < width) {
#pragma unroll 4
        for (int row = 0; row < rows; row++) {
            sum += dlogits[size_t(row) * classes + label] * dropped[size_t(row) * width + column];
        }
        dweight[size_t(label) * width + column] = sum;
    }
    if (column > 0) return;
    sum = 0.0f;
    for (int row = 0; row < rows; row++) sum += dlogits[size_t(row) * classes + label];
    dbias[label] = sum;
    if (label > 0) return;
    sum = 0.0f;
    for (int row = 0; row < rows; row++) sum += losses[row];
    loss[0] = sum;
}
