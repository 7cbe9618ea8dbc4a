// gelu(x + bias) with the error function, and gelu with a gate: Ops::bias_gelu, geglu.
#pragma once
#include "reductions.cuh"

DEVICE float phi(float z) { return 0.5f * (1.0f + erff(z * 0.70710678118654752f)); }

// Grid: rows, columns / (128 V).
template <int V>
DEVICE void bias_gelu(int width, In x, const float* bias, Out out) {
    int column = V * (blockIdx.y * blockDim.x + threadIdx.x);
    if (column >= width) return;
    size_t at = size_t(blockIdx.x) * width + column;
    float z[V], b[V];
    x.read<V>(at, z);
    load<V>(bias + column, b);
#pragma unroll
    for (int i = 0; i < V; i++) {
        z[i] += b[i];
        z[i] *= phi(z[i]);
    }
    out.write<V>(at, z);
}

KERNEL(128, bias_gelu_1, int width, In x, const float* bias, Out out) { bias_gelu<1>(width, x, bias, out); }
KERNEL(128, bias_gelu_4, int width, In x, const float* bias, Out out) { bias_gelu<4>(width, x, bias, out); }

// dx = dy (Phi(z) + z phi(z)); `partial` is (rows / SUM_ROWS, width), of dbias. Grid: columns / (128 V), row groups.
template <int V>
DEVICE void bias_gelu_backward(int rows, int width, In x, const float* bias, In dy, Out dx, float* partial) {
    int column = V * (blockIdx.x * blockDim.x + threadIdx.x);
    if (column >= width) return;
    int first = blockIdx.y * SUM_ROWS, last = min(first + SUM_ROWS, rows);
    float b[V], sum[V] = {};
    load<V>(bias + column, b);
    for (int row = first; row < last; row++) {
        size_t at = size_t(row) * width + column;
        float z[V], d[V];
        x.read<V>(at, z);
        dy.read<V>(at, d);
#pragma unroll
        for (int i = 0; i < V; i++) {
            z[i] += b[i];
            float density = 0.39894228040143268f * expf(-0.5f * z[i] * z[i]);
            d[i] *= phi(z[i]) + z[i] * density;
            sum[i] += d[i];
        }
        dx.write<V>(at, d);
    }
    store<V>(partial + size_t(blockIdx.y) * width + column, sum);
}

// gelu(a) g of rows [a, g], each `width` wide: Ops::geglu. Grid: rows, columns / (128 V).
template <int V>
DEVICE void geglu(int width, In x, Out out) {
    int column = V * (blockIdx.y * blockDim.x + threadIdx.x);
    if (column >= width) return;
    size_t at = 2 * size_t(blockIdx.x) * width + column;
    float a[V], gate[V];
    x.read<V>(at, a);
    x.read<V>(at + width, gate);
#pragma unroll
    for (int i = 0; i < V; i++) a[i] *= phi(a[i]) * gate[i];
    out.write<V>(size_t(blockIdx.x) * width + column, a);
}

KERNEL(128, geglu_1, int width, In x, Out out) { geglu<1>(width, x, out); }
KERNEL(128, geglu_4, int width, In x, Out out) { geglu<4>(width, x, out); }

// da = dy g (Phi(a) + a phi(a)), dg = dy a Phi(a). Grid: rows, columns / (128 V).
template <int V>
DEVICE void geglu_backward(int width, In x, In dy, Out dx) {
    int column = V * (blockIdx.y * blockDim.x + threadIdx.x);
    if (column >= width) return;
    size_t at = 2 * size_t(blockIdx.x) * width + column;
    float a[V], gate[V], d[V];
    x.read<V>(at, a);
    x.read<V>(at + width, gate);
    dy.read<V>(size_t(blockIdx.x) * width + column, d);
#pragma unroll
    for (int i = 0; i < V; i++) {
        float cdf = phi(a[i]), density = 0.39894228040143268f * expf(-0.5f * a[i] * a[i]);
        float slope = cdf + a[i] * density, of_gate = d[i] * a[i] * cdf;
        a[i] = d[i] * gate[i] * slope;
        gate[i] = of_gate;
    }
    dx.write<V>(at, a);
    dx.write<V>(at + width, gate);
}

KERNEL(128, geglu_backward_1, int width, In x, In dy, Out dx) { geglu_backward<1>(width, x, dy, dx); }
KERNEL(128, geglu_backward_4, int width, In x, In dy, Out dx) { geglu_backward<4>(width, x, dy, dx); }

KERNEL(128, bias_gelu_backward_1, int rows, int width, In x, const float* bias, In dy, Out dx, float* partial) {
    bias_gelu_backward<1>(rows, width, x, bias, dy, dx, partial);
}
KERNEL(128, bias_gelu_backward_4, int rows, int width, In x, const float* bias, In dy, Out dx, float* partial) {
    bias_gelu_backward<4>(rows, width, x, bias, dy, dx, partial);
}
