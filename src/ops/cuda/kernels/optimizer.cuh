// AdamW and the global norm of the gradients over many arrays in one launch: Ops::step, Ops::sum_squares. The clipping
// factor goes from one kernel to the next in device memory: the host need not know it to enqueue the step.
#pragma once
#include "common.cuh"

// Elements of one block.
constexpr int BLOCK_ELEMENTS = 4096;

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
    double sum = 0.0;
    for (size_t i = start + threadIdx.x; i < end; i += blockDim.x) sum += double(item.x[i]) * double(item.x[i]);
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
    // The copy of the value that products read, or null.
    bf16* half;
    uint64_t elements;
    uint64_t first;
    float rate, decay;
};

// The common scalars of a step: see AdamWStep.
struct Step {
    float beta1, beta2, rest1, rest2, correction1, correction2, epsilon, clip;
};

// As AdamWStep::apply, operation by operation: `__fmul_rn` and `__fadd_rn` are never contracted to fused ones, so the bits
// are those of the other engines. `clip_factor`: the factor of clipping; null for the step's own.
KERNEL(256, adamw, const Updated* items, int count, Step step, const ClipFactor* clip_factor) {
    float clip = clip_factor ? clip_factor->clip : step.clip;
    if (!(clip == clip)) return;
    const Updated item = items[item_of(items, count, blockIdx.x)];
    size_t start = (blockIdx.x - item.first) * BLOCK_ELEMENTS;
    size_t end = start + BLOCK_ELEMENTS < item.elements ? start + BLOCK_ELEMENTS : item.elements;
    for (size_t i = start + threadIdx.x; i < end; i += blockDim.x) {
        float w = item.value[i];
        float g = __fmul_rn(item.gradient[i], clip);
        float m = __fadd_rn(__fmul_rn(step.beta1, item.m[i]), __fmul_rn(step.rest1, g));
        float v = __fadd_rn(__fmul_rn(step.beta2, item.v[i]), __fmul_rn(__fmul_rn(step.rest2, g), g));
        float root = __fadd_rn(__fsqrt_rn(__fmul_rn(step.correction2, v)), step.epsilon);
        float update = __fadd_rn(__fdiv_rn(__fmul_rn(step.correction1, m), root), __fmul_rn(item.decay, w));
        w = __fsub_rn(w, __fmul_rn(item.rate, update));
        item.value[i] = w;
        item.m[i] = m;
        item.v[i] = v;
        if (item.half) item.half[i] = to_bf16(w);
    }
}
