// Common definitions of all kernels: declarations, bfloat16, the dropout generator, sums over a warp, tensor-core products.
//
// The same sources are compiled by nvcc for the GPU and, with BIOREL_HOST defined, by a C++ compiler for the tests
// (tests/cuda/shim/), which emulates what is declared here. Rules that follow from it and from determinism:
//
// - A kernel is `KERNEL(threads, name, parameters)`; `threads` is the largest size of its block. KERNEL_RESIDENT also says how many
//   blocks should fit on a multiprocessor, where the compiler otherwise chooses badly.
// - Shared memory is dynamic and obtained by SHARED, once in a kernel.
// - Collectives (shuffles, mma, ldmatrix) are called by all 32 lanes of a warp, barriers by all threads of a block.
// - No atomics on floats: a sum over rows is written as partial sums and added in a fixed order.
// - Nothing depends on the number of multiprocessors.
#pragma once

#ifdef BIOREL_HOST
#include "shim.h"
#else
#include <stdint.h>
#define KERNEL(threads, name, ...) extern "C" __global__ void __launch_bounds__(threads) name(__VA_ARGS__)
#define KERNEL_RESIDENT(threads, blocks, name, ...)                                                                    \
    extern "C" __global__ void __launch_bounds__(threads, blocks) name(__VA_ARGS__)
#define SHARED(type, name) type* name = reinterpret_cast<type*>(dynamic_shared)
extern __shared__ __align__(16) unsigned char dynamic_shared[];
#endif

#define DEVICE __device__ __forceinline__

constexpr uint32_t FULL = 0xffffffffu;
constexpr int WARP = 32;

// --- bfloat16: the upper half of an f32, rounded to nearest even ------------------------------------------------------

struct bf16 {
    uint16_t bits;
};

// Two of them, `low` first in memory.
DEVICE uint32_t pack_bf16(float low, float high) {
#ifdef BIOREL_HOST
    return shim::round_bf16(low) | uint32_t(shim::round_bf16(high)) << 16;
#else
    uint32_t packed;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
#endif
}

DEVICE float low_bf16(uint32_t packed) { return __uint_as_float(packed << 16); }
DEVICE float high_bf16(uint32_t packed) { return __uint_as_float(packed & 0xffff0000u); }
DEVICE float to_float(bf16 x) { return __uint_as_float(uint32_t(x.bits) << 16); }
DEVICE bf16 to_bf16(float x) { return bf16{uint16_t(pack_bf16(x, 0.0f))}; }

// V consecutive elements: V is 4 where rows and addresses allow, else 1.

template <int V>
DEVICE void load(const float* from, float (&x)[V]) {
    if constexpr (V == 4) {
        float4 four = *reinterpret_cast<const float4*>(from);
        x[0] = four.x, x[1] = four.y, x[2] = four.z, x[3] = four.w;
    } else {
        x[0] = *from;
    }
}

template <int V>
DEVICE void load(const bf16* from, float (&x)[V]) {
    if constexpr (V == 4) {
        uint2 two = *reinterpret_cast<const uint2*>(from);
        x[0] = low_bf16(two.x), x[1] = high_bf16(two.x), x[2] = low_bf16(two.y), x[3] = high_bf16(two.y);
    } else {
        x[0] = to_float(*from);
    }
}

template <int V>
DEVICE void store(float* to, const float (&x)[V]) {
    if constexpr (V == 4) {
        *reinterpret_cast<float4*>(to) = make_float4(x[0], x[1], x[2], x[3]);
    } else {
        *to = x[0];
    }
}

template <int V>
DEVICE void store(bf16* to, const float (&x)[V]) {
    if constexpr (V == 4) {
        *reinterpret_cast<uint2*>(to) = make_uint2(pack_bf16(x[0], x[1]), pack_bf16(x[2], x[3]));
    } else {
        *to = to_bf16(x[0]);
    }
}

// An array that exists as f32, as bf16 or, when it is written, as both; the other pointer is null. Which one is the same
// for all threads, so the choice costs nothing compared with the memory access.
struct In {
    const float* f32;
    const bf16* half;

    template <int V>
    DEVICE void read(size_t at, float (&x)[V]) const {
        if (f32) {
            load<V>(f32 + at, x);
        } else {
            load<V>(half + at, x);
        }
    }
};

struct Out {
    float* f32;
    bf16* half;

    template <int V>
    DEVICE void write(size_t at, const float (&x)[V]) const {
        if (f32) store<V>(f32 + at, x);
        if (half) store<V>(half + at, x);
    }
};

// --- Dropout: src/rng.rs, Philox4x32-10 --------------------------------------------------------------------------------

// Where a mask is drawn. Element e is word e % 4 of block e / 4; it is kept if the word is below `keep`, and then
// multiplied by `scale`. `keep` 0 means no dropout.
struct Mask {
    uint32_t key[2];
    uint32_t site, step, micro;
    uint32_t keep;
    float scale;
    uint32_t row_blocks;  // of an attention: blocks between two of its rows

    DEVICE uint4 words(uint32_t block) const {
        uint32_t k0 = key[0], k1 = key[1];
        uint32_t c0 = block, c1 = site, c2 = step, c3 = micro;
#pragma unroll
        for (int round = 0; round < 10; round++) {
            uint32_t high0 = __umulhi(0xD2511F53u, c0), low0 = 0xD2511F53u * c0;
            uint32_t high1 = __umulhi(0xCD9E8D57u, c2), low1 = 0xCD9E8D57u * c2;
            c0 = high1 ^ c1 ^ k0, c1 = low1, c2 = high0 ^ c3 ^ k1, c3 = low0;
            k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
        }
        return make_uint4(c0, c1, c2, c3);
    }

    // Bit i: whether element 4 * block + i is kept.
    DEVICE uint32_t kept(uint32_t block) const {
        uint4 w = words(block);
        return uint32_t(w.x < keep) | uint32_t(w.y < keep) << 1 | uint32_t(w.z < keep) << 2 | uint32_t(w.w < keep) << 3;
    }

    // Multiply elements `at`.. by their factors; `at` is a multiple of V.
    template <int V>
    DEVICE void apply(size_t at, float (&x)[V]) const {
        if (keep == 0) return;
        uint32_t bits = kept(uint32_t(at / 4)) >> (at % 4);
#pragma unroll
        for (int i = 0; i < V; i++) x[i] = bits >> i & 1 ? x[i] * scale : 0.0f;
    }
};

// --- Sums over a warp: the result is the same bits in every lane ---------------------------------------------------------------------

DEVICE float warp_sum(float x) {
#pragma unroll
    for (int lane = 16; lane > 0; lane /= 2) x += __shfl_xor_sync(FULL, x, lane);
    return x;
}

DEVICE float warp_max(float x) {
#pragma unroll
    for (int lane = 16; lane > 0; lane /= 2) x = fmaxf(x, __shfl_xor_sync(FULL, x, lane));
    return x;
}

// --- Tensor cores ----------------------------------------------------------------------------------------------------------

// 2^x.
DEVICE float power_of_two(float x) {
#ifdef BIOREL_HOST
    return exp2f(x);
#else
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#endif
}

// c += A B for A 16 x 16 and B 16 x 8 in bf16. With g = lane / 4 and t = lane % 4 a lane holds
// a: rows g, g + 8, g, g + 8 at columns 2t, 2t, 2t + 8, 2t + 8 (and the next column);
// b: rows 2t, 2t + 8 (and the next row) at column g;  c: rows g, g, g + 8, g + 8 at columns 2t, 2t + 1, 2t, 2t + 1.
DEVICE void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
#ifdef BIOREL_HOST
    shim::mma(c, a, b0, b1, __LINE__);
#else
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}

// Four 8 x 8 matrices of bf16 from shared memory: lane i gives the address of row i % 8 of matrix i / 8 (16 bytes). In x[j]
// a lane receives row g, columns 2t and 2t + 1 of matrix j, or of its transpose.
template <bool TRANSPOSED>
DEVICE void load_matrices(uint32_t (&x)[4], const bf16* row) {
#ifdef BIOREL_HOST
    shim::load_matrices(x, row, TRANSPOSED, __LINE__);
#else
    uint32_t address = uint32_t(__cvta_generic_to_shared(row));
    if constexpr (TRANSPOSED) {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                     : "r"(address)
                     : "memory");
    } else {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                     : "r"(address)
                     : "memory");
    }
#endif
}

// --- Lists of arrays that one launch goes over ---------------------------------------------------------------------------------

// The item that a block belongs to, by bisection: `first` is the first block of each.
template <class Item>
DEVICE int item_of(const Item* items, int count, uint32_t block) {
    int low = 0, high = count;
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (items[middle].first <= block) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}
