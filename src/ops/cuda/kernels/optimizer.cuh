// AdamW and the global norm of the gradients over many arrays in one launch: Ops::step, Ops::sum_squares. The clipping
// factor goes from one kernel to the next in device memory: the host need not know it to enqueue the step.
#pragma once
#include "common.cuh"

// Elements of one block.
constexpr int BLOCK_ELEMENTS = 4096;

// Where the last whole vector of four of a block's elements ends: `start` is a multiple of four.
DEVICE size_t vectors_end(size_t start, size_t end) { return end - (end - start) % 4; }

struct Squared {
    const float* x;
    uint64_t elements;
    uint64_t first;
};

// Sum over a block in f64, in a fixed order; thread 0 has it. `shared`: 8 doubles. Blocks of 256.
DEVICE double block_sum(double sum, double* shared) {
#pragma unroll
    for (int lane = 16; lane > 0; lane /= 2) sum += __shfl_xor_sync(FULL, sum, lane);
    if (threadIdx.x % WARP == 0) shared[threadIdx.x / WARP] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int warp = 1; warp < int(blockDim.x) / WARP; warp++) sum += shared[warp];
    }
    return sum;
}

// partial[block] = sum of squares of the block's elements. Shared memory: 8 doubles.
KERNEL(256, sum_squares, const Squared* items, int count, double* partial) {
    SHARED(double, shared);
    const Squared item = items[item_of(items, count, blockIdx.x)];
    size_t start = (blockIdx.x - item.first) * BLOCK_ELEMENTS;
    size_t end = start + BLOCK_ELEMENTS < item.elements ? start + BLOCK_ELEMENTS : item.elements;
    size_t whole = vectors_end(start, end);
    double sum = 0.0;
    for (size_t i = start + 4 * threadIdx.x; i < whole; i += 4 * blockDim.x) {
        float x[4];
        load<4>(item.x + i, x);
#pragma unroll
        for (int k = 0; k < 4; k++) sum += double(x[k]) * double(x[k]);
    }
    for (size_t i = whole + threadIdx.x; i < end; i += blockDim.x) sum += double(item.x[i]) * double(item.x[i]);
    sum = block_sum(sum, shared);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// The loss and the gradient of a step. The host reads it later.
struct ClipFactor {
    double squares;
    float loss;
    // The factor of the gradients; NaN: the parameters stay as they are.
    float clip;
};

// The sum of the partial sums and what follows from it, as StepResult::clip has it. `loss` may be null. One block. Shared
// memory: 8 doubles.
KERNEL(256, clip_factor, const double* partial, int count, const float* loss, double max_norm, ClipFactor* out) {
    SHARED(double, shared);
    double sum = 0.0;
    for (int i = threadIdx.x; i < count; i += blockDim.x) sum += partial[i];
    sum = block_sum(sum, shared);
    if (threadIdx.x == 0) {
        ClipFactor found = {sum, loss ? *loss : 0.0f, 1.0f};
        double norm = sqrt(sum);
        if (max_norm > 0.0 && norm > max_norm) found.clip = float(max_norm / norm);
        if (!(fabsf(found.loss) < INFINITY && norm < INFINITY)) found.clip = NAN;
        *out = found;
    }
}

struct Updated {
    float *value, *m, *v;
    const float* gradient;
    // Where the gradient has some rows only, for each row 1 + its place in the gradient, or 0; else null.
    const uint32_t* places;
    // The copy of the value that products read, or null.
    bf16* half;
    uint64_t elements;
    uint64_t first;
    // Of the rows, with `places`: a multiple of four.
    uint64_t width;
    float rate, decay;
};

// The common scalars of a step: see AdamWStep.
struct Step {
    float beta1, beta2, rest1, rest2, correction1, correction2, epsilon, clip;
};

// V elements from `at` on, as AdamWStep::apply, operation by operation: `__fmul_rn` and `__fadd_rn` are never contracted to
// fused ones, so the bits are those of the other engines.
template <int V>
DEVICE void adamw_at(const Updated& item, const Step& step, float clip, size_t at) {
    float value[V], m[V], v[V], gradient[V];
    load<V>(item.value + at, value);
    load<V>(item.m + at, m);
    load<V>(item.v + at, v);
    if (item.places) {
        uint32_t width = uint32_t(item.width), row = uint32_t(at) / width, place = item.places[row];
#pragma unroll
        for (int i = 0; i < V; i++) gradient[i] = 0.0f;
        if (place) load<V>(item.gradient + size_t(place - 1) * width + (uint32_t(at) - row * width), gradient);
    } else {
        load<V>(item.gradient + at, gradient);
    }
#pragma unroll
    for (int i = 0; i < V; i++) {
        float g = __fmul_rn(gradient[i], clip);
        m[i] = __fadd_rn(__fmul_rn(step.beta1, m[i]), __fmul_rn(step.rest1, g));
        v[i] = __fadd_rn(__fmul_rn(step.beta2, v[i]), __fmul_rn(__fmul_rn(step.rest2, g), g));
        float root = __fadd_rn(__fsqrt_rn(__fmul_rn(step.correction2, v[i])), step.epsilon);
        float update = __fadd_rn(__fdiv_rn(__fmul_rn(step.correction1, m[i]), root), __fmul_rn(item.decay, value[i]));
        value[i] = __fsub_rn(value[i], __fmul_rn(item.rate, update));
    }
    store<V>(item.value + at, value);
    store<V>(item.m + at, m);
    store<V>(item.v + at, v);
    if (item.half) store<V>(item.half + at, value);
}

// `clip_factor`: the factor of clipping; null for the step's own.
KERNEL(256, adamw, const Updated* items, int count, Step step, const ClipFactor* clip_factor) {
    float clip = clip_factor ? clip_factor->clip : step.clip;
    if (!(clip == clip)) return;
    const Updated item = items[item_of(items, count, blockIdx.x)];
    size_t start = (blockIdx.x - item.first) * BLOCK_ELEMENTS;
    size_t end = start + BLOCK_ELEMENTS < item.elements ? start + BLOCK_ELEMENTS : item.elements;
    size_t whole = vectors_end(start, end);
    for (size_t i = start + 4 * threadIdx.x; i < whole; i += 4 * blockDim.x) adamw_at<4>(item, step, clip, i);
    for (size_t i = whole + threadIdx.x; i < end; i += blockDim.x) adamw_at<1>(item, step, clip, i);
}
