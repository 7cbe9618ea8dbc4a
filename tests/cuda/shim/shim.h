// Runs CUDA kernels on the CPU, so that they are tested without a GPU: what src/ops/cuda/kernels/common.cuh needs.
//
// Every CUDA thread is a fiber. Fibers of a block take turns; one that waits (at a barrier, or for the other lanes of its
// warp) lets the next one run. Shared memory is exactly as large as requested, starts as NaN and is followed by guard
// bytes. Divergence - a barrier that not all threads reach, a collective that not all lanes of a warp call, or from
// different lines - is an error with its line. What cannot be shown here: speed, bank conflicts, races between blocks of
// one launch (they run one after the other, in three orders), the exact rounding of a GPU's exp2, exp and erf.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#define __device__
#define __global__
#define __forceinline__ inline
#define __restrict__ __restrict

struct uint2 { uint32_t x, y; } __attribute__((aligned(8)));
struct uint3 { uint32_t x, y, z; };
struct uint4 { uint32_t x, y, z, w; } __attribute__((aligned(16)));
struct float2 { float x, y; } __attribute__((aligned(8)));
struct float4 { float x, y, z, w; } __attribute__((aligned(16)));
struct int4 { int x, y, z, w; } __attribute__((aligned(16)));
inline uint2 make_uint2(uint32_t x, uint32_t y) { return {x, y}; }
inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w) { return {x, y, z, w}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

namespace shim {

using Body = void (*)(void (*kernel)(), void** arguments);

struct Kernel {
    const char* name;
    unsigned threads;
    void (*kernel)();
    Body body;
    Kernel* next;
    Kernel(const char* name, unsigned threads, void (*kernel)(), Body body);
};

template <class... A, size_t... I>
void call(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
    kernel(*static_cast<A*>(arguments[I])...);
}

template <class... A>
Body body_of(void (*)(A...)) {
    return [](void (*kernel)(), void** arguments) {
        call(reinterpret_cast<void (*)(A...)>(kernel), arguments, std::index_sequence_for<A...>());
    };
}

struct Warp {
    // What the lanes bring to a collective. Two sets: a lane may start the next before another has read this one.
    alignas(16) unsigned char values[2][32 * 64];
    int round = 0, arrived = 0, line = 0;
    // The operands of the product of round `decoded`, as rows of A and columns of B.
    float left[16][16], right[8][16];
    int decoded = 0;
};

struct Fiber {
    uint3 index;
    int lane;
    Warp* warp;
};

// What a kernel sees of the multiprocessor that runs it.
struct View {
    Fiber* current;
    uint3 block_index, block_extent, grid_extent;
    int mutation;
};

// Tests run on several threads, and each runs launches of its own. One pointer: room for such variables is scarce.
extern thread_local View* view __attribute__((tls_model("initial-exec")));
void* shared_memory();

void barrier(int line);
// Wait for the other lanes of the warp.
void meet(int line);

// All lanes' values, in order, once all have come here. Valid until the lane's next collective.
template <class T>
const T* exchange(const T& mine, int line) {
    static_assert(sizeof(T) <= 64, "the slots of Warp");
    const Fiber& self = *view->current;
    T* values = reinterpret_cast<T*>(self.warp->values[self.warp->round & 1]);
    values[self.lane] = mine;
    meet(line);
    return values;
}

inline void warp_barrier(int line) { meet(line); }

template <class T>
T shuffle(T value, int from, int line) {
    return exchange(value, line)[from & 31];
}

uint16_t round_bf16(float x);
void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, int line);
void load_matrices(uint32_t (&x)[4], const void* row, bool transposed, int line);

}  // namespace shim

#define KERNEL(threads, name, ...)                                                                                      \
    void name(__VA_ARGS__);                                                                                            \
    static shim::Kernel registered_##name(#name, threads, reinterpret_cast<void (*)()>(name), shim::body_of(name));    \
    void name(__VA_ARGS__)
#define KERNEL_RESIDENT(threads, blocks, name, ...) KERNEL(threads, name, __VA_ARGS__)
#define SHARED(type, name) type* name = static_cast<type*>(shim::shared_memory())

#define threadIdx (shim::view->current->index)
#define blockIdx (shim::view->block_index)
#define blockDim (shim::view->block_extent)
#define gridDim (shim::view->grid_extent)

#define __syncthreads() shim::barrier(__LINE__)
#define __syncwarp() shim::warp_barrier(__LINE__)
#define __shfl_xor_sync(mask, value, lanes) shim::shuffle(value, shim::view->current->lane ^ (lanes), __LINE__)
#define __shfl_sync(mask, value, from) shim::shuffle(value, from, __LINE__)

inline float __uint_as_float(uint32_t bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}
inline uint32_t __float_as_uint(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return bits;
}
inline uint32_t __umulhi(uint32_t a, uint32_t b) { return uint32_t(uint64_t(a) * b >> 32); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return sqrtf(a); }
template <class T>
T min(T a, T b) { return a < b ? a : b; }
template <class T>
T max(T a, T b) { return a > b ? a : b; }
