// The cross-entropy of rows of logits and its gradient: Ops::cross_entropy, formulas in src/ops/loss.rs.
#pragma once
#include "common.cuh"

// loss[0] and dlogits (rows, classes). `weights`: of the labels, or null for 1. One block, a warp per row; the warps' sums
// are added in order. Shared memory: a float per warp.
KERNEL(256, cross_entropy, int rows, int classes, const float* logits, const uint32_t* labels, const float* weights,
       float gamma, float total, float* loss, float* dlogits) {
    SHARED(float, sums);
    int warps = blockDim.x / WARP, warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    float own = 0.0f;
    for (int row = warp; row < rows; row += warps) {
        const float* x = logits + size_t(row) * classes;
        int label = int(labels[row]);
        float top = -INFINITY;
        for (int j = lane; j < classes; j += WARP) top = fmaxf(top, x[j]);
        top = warp_max(top);
        float sum = 0.0f;
        for (int j = lane; j < classes; j += WARP) sum += expf(x[j] - top);
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
            dlogits[size_t(row) * classes + j] = scale * slope * q;
        }
        own += scale * counts * surprise;
    }
    if (lane == 0) sums[warp] = own;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int other = 1; other < warps; other++) own += sums[other];
        loss[0] = own;
    }
}
