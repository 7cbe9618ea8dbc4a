// LayerNorm(dropout(branch + bias) + residual) and its backward: Ops::add_norm.
//
// A warp takes a row. Forward: the row stays in shared memory between the passes (each lane reads back only what it wrote
// itself), so mean and deviation are two passes over the row without reading it twice from memory or drawing its mask
// twice. Backward: warps take rows in strides and keep three column sums each; a block adds those of its warps and writes
// them; `column_reduce` adds the blocks'.
#pragma once
#include "common.cuh"

template <int V>
DEVICE void add_norm(int rows, int width, In branch, const float* bias, const float* residual, const float* gamma,
                     const float* beta, float eps, Mask mask, Out out, Out normalized, float* rstd) {
    SHARED(float, staged);
    int warps = blockDim.x / WARP, warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    int row = blockIdx.x * warps + warp;
    if (row >= rows) return;
    float* x = staged + warp * width;
    size_t start = size_t(row) * width;
    float sum = 0.0f;
    for (int column = V * lane; column < width; column += V * WARP) {
        float value[V], other[V];
        branch.read<V>(start + column, value);
        if (bias) {
            load<V>(bias + column, other);
#pragma unroll
            for (int i = 0; i < V; i++) value[i] += other[i];
        }
        mask.apply<V>(start + column, value);
        if (residual) {
            load<V>(residual + start + column, other);
#pragma unroll
            for (int i = 0; i < V; i++) value[i] += other[i];
        }
#pragma unroll
        for (int i = 0; i < V; i++) sum += value[i];
        store<V>(x + column, value);
    }
    float mean = warp_sum(sum) / width;
    float squares = 0.0f;
    for (int column = V * lane; column < width; column += V * WARP) {
        float value[V];
        load<V>(x + column, value);
#pragma unroll
        for (int i = 0; i < V; i++) squares += (value[i] - mean) * (value[i] - mean);
    }
    float scale = 1.0f / sqrtf(warp_sum(squares) / width + eps);
    for (int column = V * lane; column < width; column += V * WARP) {
        float value[V], g[V], b[V], y[V];
        load<V>(x + column, value);
        load<V>(gamma + column, g);
        load<V>(beta + column, b);
#pragma unroll
        for (int i = 0; i < V; i++) {
            value[i] = (value[i] - mean) * scale;
            y[i] = value[i] * g[i] + b[i];
        }
        normalized.write<V>(start + column, value);
        out.write<V>(start + column, y);
    }
    if (lane == 0) rstd[row] = scale;
}

// Shared memory: a row of floats per warp.
#define ADD_NORM(name, V)                                                                                               \
    KERNEL(128, name, int rows, int width, In branch, const float* bias, const float* residual, const float* gamma,    \
           const float* beta, float eps, Mask mask, Out out, Out normalized, float* rstd) {                            \
        add_norm<V>(rows, width, branch, bias, residual, gamma, beta, eps, mask, out, normalized, rstd);               \
    }
ADD_NORM(add_norm_1, 1)
ADD_NORM(add_norm_4, 4)

// Vectors of a row that a lane keeps.
constexpr int KEPT = 8;

// With g = dy * gamma: dx = rstd (g - mean(g) - n mean(g n)). `partial` is (blocks, 3, width): of dgamma, dbeta, dbias. With
// KEEP a row has at most KEPT vectors for each lane, which keeps them between the two passes instead of reading them again.
template <int V, bool KEEP>
DEVICE void add_norm_backward(int rows, int width, const float* dy, In normalized, const float* rstd,
                              const float* gamma, Mask mask, Out branch, Out residual, float* partial) {
    SHARED(float, sums);
    int warps = blockDim.x / WARP, warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    float* of_gamma = sums + warp * 3 * width;
    float *of_beta = of_gamma + width, *of_bias = of_beta + width;
    for (int column = V * lane; column < width; column += V * WARP) {
        float zero[V] = {};
        store<V>(of_gamma + column, zero);
        store<V>(of_beta + column, zero);
        store<V>(of_bias + column, zero);
    }
    for (int row = blockIdx.x * warps + warp; row < rows; row += gridDim.x * warps) {
        size_t start = size_t(row) * width;
        float sum = 0.0f, product = 0.0f;
        float kept[KEEP ? KEPT : 1][2][V];
        auto read = [&](int column, float (&row_of)[2][V]) {
            load<V>(dy + start + column, row_of[0]);
            normalized.read<V>(start + column, row_of[1]);
        };
        auto add = [&](int column, const float (&row_of)[2][V]) {
            float g[V], s[V], b[V];
            load<V>(gamma + column, g);
            load<V>(of_gamma + column, s);
            load<V>(of_beta + column, b);
#pragma unroll
            for (int i = 0; i < V; i++) {
                float d = row_of[0][i], n = row_of[1][i];
                s[i] += d * n;
                b[i] += d;
                sum += d * g[i];
                product += d * g[i] * n;
            }
            store<V>(of_gamma + column, s);
            store<V>(of_beta + column, b);
        };
        if constexpr (KEEP) {
            // All of the row is under way before its first element is needed.
#pragma unroll
            for (int k = 0; k < KEPT; k++) {
                if (V * (lane + k * WARP) < width) read(V * (lane + k * WARP), kept[k]);
            }
#pragma unroll
            for (int k = 0; k < KEPT; k++) {
                if (V * (lane + k * WARP) < width) add(V * (lane + k * WARP), kept[k]);
            }
        } else {
            for (int column = V * lane; column < width; column += V * WARP) {
                read(column, kept[0]);
                add(column, kept[0]);
            }
        }
        sum = warp_sum(sum) / width;
        product = warp_sum(product) / width;
        float scale = rstd[row];
        auto write = [&](int column, const float (&row_of)[2][V]) {
            float d[V], g[V], s[V];
            load<V>(gamma + column, g);
#pragma unroll
            for (int i = 0; i < V; i++) d[i] = scale * (row_of[0][i] * g[i] - sum - row_of[1][i] * product);
            residual.write<V>(start + column, d);
            mask.apply<V>(start + column, d);
            branch.write<V>(start + column, d);
            load<V>(of_bias + column, s);
#pragma unroll
            for (int i = 0; i < V; i++) s[i] += d[i];
            store<V>(of_bias + column, s);
        };
        if constexpr (KEEP) {
#pragma unroll
            for (int k = 0; k < KEPT; k++) {
                if (V * (lane + k * WARP) < width) write(V * (lane + k * WARP), kept[k]);
            }
        } else {
            for (int column = V * lane; column < width; column += V * WARP) {
                read(column, kept[0]);
                write(column, kept[0]);
            }
        }
    }
    __syncthreads();
    for (int column = threadIdx.x; column < 3 * width; column += blockDim.x) {
        float sum = 0.0f;
        for (int w = 0; w < warps; w++) sum += sums[w * 3 * width + column];
        partial[size_t(blockIdx.x) * 3 * width + column] = sum;
    }
}

// Shared memory: three rows of floats per warp.
// There are at most 256 blocks: three on a multiprocessor are all there can be.
#define ADD_NORM_BACKWARD(name, V, KEEP)                                                                                \
    KERNEL_RESIDENT(128, 3, name, int rows, int width, const float* dy, In normalized, const float* rstd,              \
                    const float* gamma, Mask mask, Out branch, Out residual, float* partial) {                         \
        add_norm_backward<V, KEEP>(rows, width, dy, normalized, rstd, gamma, mask, branch, residual, partial);         \
    }
ADD_NORM_BACKWARD(add_norm_backward_1, 1, false)
ADD_NORM_BACKWARD(add_norm_backward_4, 4, false)
ADD_NORM_BACKWARD(add_norm_backward_kept, 4, true)
