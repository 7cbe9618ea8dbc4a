// A head's attention over the words of each sentence: Ops::attention_pooling. A block takes a sentence and 128 columns; for the
// scores, which each block of a sentence computes, a warp takes a word, and then a thread a column.
#pragma once
#include "common.cuh"

// Rows `first`.. that a sentence attends to.
struct Span {
    int first, count;
};

// scores[i] = rows[i] . vector of the span's rows, in shared memory. Called by all threads of the block.
DEVICE void scores_of(float* scores, const Span& span, int width, const float* x, const float* vector) {
    int warps = blockDim.x / WARP, lane = threadIdx.x % WARP;
    for (int i = threadIdx.x / WARP; i < span.count; i += warps) {
        const float* row = x + size_t(span.first + i) * width;
        float sum = 0.0f;
        for (int column = lane; column < width; column += WARP) sum += row[column] * vector[column];
        sum = warp_sum(sum);
        if (lane == 0) scores[i] = sum;
    }
    __syncthreads();
}

// a = softmax(x . key) of each sentence, out (sentences, width) = sum of a x. `weights` (sentences, tokens) gets a; the rest of
// it is not touched. Grid: sentences, width / 128. Shared memory: a float for each word of the longest.
KERNEL(128, attention_pooling, int width, int tokens, const Span* spans, const float* x, const float* key, float* out,
       float* weights) {
    SHARED(float, a);
    const Span span = spans[blockIdx.x];
    int lane = threadIdx.x % WARP;
    float* own = weights + size_t(blockIdx.x) * tokens + span.first;
    scores_of(a, span, width, x, key);
    float top = -INFINITY, total = 0.0f;
    for (int i = lane; i < span.count; i += WARP) top = fmaxf(top, a[i]);
    top = warp_max(top);
    for (int i = lane; i < span.count; i += WARP) total += expf(a[i] - top);
    total = warp_sum(total);
    __syncthreads();
    for (int i = threadIdx.x; i < span.count; i += blockDim.x) {
        a[i] = expf(a[i] - top) / total;
        if (blockIdx.y == 0) own[i] = a[i];
    }
    __syncthreads();
    int column = blockIdx.y * blockDim.x + threadIdx.x;
    if (column < width) {
        float sum = 0.0f;
#pragma unroll 4
        for (int i = 0; i < span.count; i++) sum += a[i] * x[size_t(span.first + i) * width + column];
        out[size_t(blockIdx.x) * width + column] = sum;
    }
}

// With s the scores: ds = a (dout . x - sum of a dout . x), dx = a dout + ds key (rows of no span are not touched), and
// `partial` (sentences, width) of dkey = sum of ds x. Grid: sentences, width / 128. Shared memory: two floats for each word of the longest.
KERNEL(128, attention_pooling_backward, int width, int tokens, int longest, const Span* spans, const float* x,
       const float* key, const float* weights, const float* dout, float* dx, float* partial) {
    SHARED(float, ds);
    float* a = ds + longest;
    const Span span = spans[blockIdx.x];
    int lane = threadIdx.x % WARP;
    const float* own = weights + size_t(blockIdx.x) * tokens + span.first;
    const float* upstream = dout + size_t(blockIdx.x) * width;
    for (int i = threadIdx.x; i < span.count; i += blockDim.x) a[i] = own[i];
    scores_of(ds, span, width, x, upstream);
    float mean = 0.0f;
    for (int i = lane; i < span.count; i += WARP) mean += a[i] * ds[i];
    mean = warp_sum(mean);
    __syncthreads();
    for (int i = threadIdx.x; i < span.count; i += blockDim.x) ds[i] = a[i] * (ds[i] - mean);
    __syncthreads();
    int column = blockIdx.y * blockDim.x + threadIdx.x;
    if (column < width) {
        float d = upstream[column], k = key[column], sum = 0.0f;
#pragma unroll 4
        for (int i = 0; i < span.count; i++) {
            size_t at = size_t(span.first + i) * width + column;
            dx[at] = a[i] * d + ds[i] * k;
            sum += ds[i] * x[at];
        }
        partial[size_t(blockIdx.x) * width + column] = sum;
    }
}
