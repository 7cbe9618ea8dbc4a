// A head's attention over the words of each sentence: Ops::attention_pooling and Ops::pool_words. A block takes a sentence, or a
// pair of entities, and 128 columns; for the scores, which each block of a sentence computes, a warp takes a word, and then a
// thread a column.
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

// scores[i] = score . tanh(keys[i] + query) of the span's rows, likewise.
DEVICE void pair_scores_of(float* scores, const Span& span, int width, const In& keys, const float* query, const float* score) {
    int warps = blockDim.x / WARP, lane = threadIdx.x % WARP;
    for (int i = threadIdx.x / WARP; i < span.count; i += warps) {
        float sum = 0.0f;
        for (int column = lane; column < width; column += WARP) {
            float key[1];
            keys.read<1>(size_t(span.first + i) * width + column, key);
            sum += score[column] * tanhf(key[0] + query[column]);
        }
        sum = warp_sum(sum);
        if (lane == 0) scores[i] = sum;
    }
    __syncthreads();
}

// From the scores, a = their softmax in their place, and out = sum of a x in the block's columns. `own` gets a.
DEVICE void pool(float* a, const Span& span, int width, const float* x, float* out, float* own) {
    int lane = threadIdx.x % WARP;
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

// In shared memory, a = the weights of a span and ds = a (dout . x - sum of a dout . x), the gradients of its scores.
DEVICE void score_gradients(float* ds, float* a, const Span& span, int width, const float* x, const float* own,
                            const float* upstream) {
    int lane = threadIdx.x % WARP;
    for (int i = threadIdx.x; i < span.count; i += blockDim.x) a[i] = own[i];
    scores_of(ds, span, width, x, upstream);
    float mean = 0.0f;
    for (int i = lane; i < span.count; i += WARP) mean += a[i] * ds[i];
    mean = warp_sum(mean);
    __syncthreads();
    for (int i = threadIdx.x; i < span.count; i += blockDim.x) ds[i] = a[i] * (ds[i] - mean);
    __syncthreads();
}

// a = softmax(x . key) of each sentence, out (sentences, width) = sum of a x. `weights` (sentences, tokens) gets a; the rest of
// it is not touched. Grid: sentences, width / 128. Shared memory: a float for each word of the longest.
KERNEL(128, attention_pooling, int width, int tokens, const Span* spans, const float* x, const float* key, float* out,
       float* weights) {
    SHARED(float, a);
    const Span span = spans[blockIdx.x];
    scores_of(a, span, width, x, key);
    pool(a, span, width, x, out, weights + size_t(blockIdx.x) * tokens + span.first);
}

// With ds the gradients of the scores: dx = a dout + ds key (rows of no span are not touched), and
// `partial` (sentences, width) of dkey = sum of ds x. Grid: sentences, width / 128. Shared memory: two floats for each word of the longest.
KERNEL(128, attention_pooling_backward, int width, int tokens, int longest, const Span* spans, const float* x,
       const float* key, const float* weights, const float* dout, float* dx, float* partial) {
    SHARED(float, ds);
    float* a = ds + longest;
    const Span span = spans[blockIdx.x];
    const float* upstream = dout + size_t(blockIdx.x) * width;
    score_gradients(ds, a, span, width, x, weights + size_t(blockIdx.x) * tokens + span.first, upstream);
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

// The same for each pair p with a = softmax(score . tanh(keys + queries[p])). Several may read one sentence.
KERNEL(128, pair_pooling, int width, int tokens, const Span* spans, const float* x, In keys, const float* queries,
       const float* score, float* out, float* weights) {
    SHARED(float, a);
    const Span span = spans[blockIdx.x];
    pair_scores_of(a, span, width, keys, queries + size_t(blockIdx.x) * width, score);
    pool(a, span, width, x, out, weights + size_t(blockIdx.x) * tokens + span.first);
}

// With t the tanh of each score: ds of all scores as `weights` has a, dqueries = sum of ds score (1 - t^2), and `partial` (pairs,
// 2 width) of dscore = sum of ds t and of the sum of dqueries. Grid and shared memory as above.
KERNEL(128, pair_pooling_backward, int width, int tokens, int longest, const Span* spans, const float* x, In keys,
       const float* queries, const float* score, const float* weights, const float* dout, float* dscores, float* dqueries,
       float* partial) {
    SHARED(float, ds);
    float* a = ds + longest;
    const Span span = spans[blockIdx.x];
    size_t pair = blockIdx.x, own = pair * tokens + span.first;
    score_gradients(ds, a, span, width, x, weights + own, dout + pair * width);
    if (blockIdx.y == 0) {
        for (int i = threadIdx.x; i < span.count; i += blockDim.x) dscores[own + i] = ds[i];
    }
    int column = blockIdx.y * blockDim.x + threadIdx.x;
    if (column < width) {
        float query = queries[pair * width + column], slopes = 0.0f, sum = 0.0f;
#pragma unroll 4
        for (int i = 0; i < span.count; i++) {
            float key[1];
            keys.read<1>(size_t(span.first + i) * width + column, key);
            float t = tanhf(key[0] + query);
            slopes += ds[i] * (1.0f - t * t);
            sum += ds[i] * t;
        }
        slopes *= score[column];
        dqueries[pair * width + column] = slopes;
        partial[2 * pair * width + column] = sum;
        partial[(2 * pair + 1) * width + column] = slopes;
    }
}

// dx and dkeys of each row of x: sums over the pairs that read it, which `pairs` names by the first one and their number. Grid:
// rows, width / 128.
KERNEL(128, pair_pooling_rows, int width, int tokens, const Span* pairs, In keys, const float* queries, const float* score,
       const float* weights, const float* dscores, const float* dout, float* dx, Out dkeys) {
    int column = blockIdx.y * blockDim.x + threadIdx.x;
    if (column >= width) return;
    const Span readers = pairs[blockIdx.x];
    size_t row = blockIdx.x, at = row * width + column;
    float key[1], sum = 0.0f, slopes[1] = {0.0f};
    keys.read<1>(at, key);
    for (int i = 0; i < readers.count; i++) {
        size_t pair = readers.first + i, of = pair * tokens + row;
        float t = tanhf(key[0] + queries[pair * width + column]);
        sum += weights[of] * dout[pair * width + column];
        slopes[0] += dscores[of] * (1.0f - t * t);
    }
    slopes[0] *= score[column];
    dx[at] = sum;
    dkeys.write<1>(at, slopes);
}
