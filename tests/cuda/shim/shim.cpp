// The scheduler of shim.h and the C interface that tests/cuda/host.rs calls. One launch at a time: the caller locks.

#include "shim.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

// ucontext saves the signal mask with a system call at every switch; a switch of our own is twenty times as fast. The
// address sanitizer knows ucontext.
#if !defined(__x86_64__) || defined(__SANITIZE_ADDRESS__)
#define USE_UCONTEXT
#include <ucontext.h>
#endif

namespace shim {

enum class State { Ready, AtBarrier, InWarp, Done };

constexpr size_t STACK = 256 << 10;
constexpr size_t SLOT = 64;
#if defined(__SANITIZE_ADDRESS__)
constexpr size_t GUARD = 0;  // the sanitizer has its own
#else
constexpr size_t GUARD = 64;
#endif

// Aligned as on the device, so that the sanitizers see misaligned accesses.
static void* aligned(size_t bytes) {
    void* memory = nullptr;
    return posix_memalign(&memory, 256, bytes + GUARD) == 0 ? memory : nullptr;
}

struct Free {
    void operator()(void* memory) { free(memory); }
};

struct Warp {
    // Two sets: a lane may start the next collective before another has read this one.
    alignas(16) unsigned char values[2][32 * SLOT];
    int round = 0, arrived = 0, line = 0;
};

struct Thread : Fiber {
    State state;
    int line;  // of the barrier or collective that it waits at
#ifdef USE_UCONTEXT
    ucontext_t context;
#else
    void* context;
#endif
    std::unique_ptr<unsigned char[]> stack;
};

Fiber* current;
uint3 block_index, block_extent, grid_extent;

static Kernel* kernels;
static std::vector<std::unique_ptr<Thread>> threads;
static std::vector<Warp> warps;
static std::unique_ptr<unsigned char, Free> shared;
static size_t shared_bytes;
static std::string error;
static const Kernel* running;
static void** running_arguments;
static int block_threads, waiting, done, barrier_line;
#ifdef USE_UCONTEXT
static ucontext_t scheduler;
#else
static void* scheduler;
#endif

Kernel::Kernel(const char* name, unsigned threads, void (*kernel)(), Body body)
    : name(name), threads(threads), kernel(kernel), body(body), next(kernels) {
    kernels = this;
}

void* shared_memory() { return shared.get(); }

static void fail(const char* format, ...) {
    if (!error.empty()) return;
    char text[256];
    va_list values;
    va_start(values, format);
    vsnprintf(text, sizeof text, format, values);
    va_end(values);
    error = text;
}

// --- Fibers ---------------------------------------------------------------------------------------------------------------

#ifdef USE_UCONTEXT
static void to_scheduler() {
    Thread* self = static_cast<Thread*>(current);
    swapcontext(&self->context, &scheduler);
}
static void to_thread(Thread& thread) {
    current = &thread;
    swapcontext(&scheduler, &thread.context);
}
#else
extern "C" void shim_switch(void** from, void* to);
asm(R"(
.text
.type shim_switch, @function
shim_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size shim_switch, .-shim_switch
)");
static void to_scheduler() {
    Thread* self = static_cast<Thread*>(current);
    shim_switch(&self->context, scheduler);
}
static void to_thread(Thread& thread) {
    current = &thread;
    shim_switch(&scheduler, thread.context);
}
#endif

static void run_thread() {
    running->body(running->kernel, running_arguments);
    Thread* self = static_cast<Thread*>(current);
    self->state = State::Done;
    done++;
    to_scheduler();
    abort();  // a finished fiber is not resumed
}

static void start(Thread& thread) {
    if (!thread.stack) thread.stack.reset(new unsigned char[STACK]);
    thread.state = State::Ready;
#ifdef USE_UCONTEXT
    getcontext(&thread.context);
    thread.context.uc_stack.ss_sp = thread.stack.get();
    thread.context.uc_stack.ss_size = STACK;
    thread.context.uc_link = nullptr;
    makecontext(&thread.context, run_thread, 0);
#else
    auto top = reinterpret_cast<uintptr_t>(thread.stack.get() + STACK) & ~uintptr_t(15);
    void** stack = reinterpret_cast<void**>(top) - 8;  // six registers, the return address, and one for the alignment
    stack[6] = reinterpret_cast<void*>(run_thread);
    thread.context = stack;
#endif
}

// Wait in `state` until another fiber makes this one ready.
static void wait(State state, int line) {
    Thread* self = static_cast<Thread*>(current);
    self->state = state;
    self->line = line;
    to_scheduler();
}

// --- Collectives ---------------------------------------------------------------------------------------------------------

void barrier(int line) {
    if (waiting > 0 && line != barrier_line) fail("threads wait at the barriers of lines %d and %d", barrier_line, line);
    barrier_line = line;
    if (++waiting < block_threads) return wait(State::AtBarrier, line);
    waiting = 0;
    for (int i = 0; i < block_threads; i++) {
        if (threads[i]->state == State::AtBarrier) threads[i]->state = State::Ready;
    }
}

const void* exchange(const void* mine, size_t bytes, int line) {
    Warp& warp = *current->warp;
    int lane = current->lane, set = warp.round & 1;
    if (bytes > SLOT) abort();
    if (warp.arrived > 0 && line != warp.line) fail("lanes of a warp are at the collectives of lines %d and %d", warp.line, line);
    warp.line = line;
    memcpy(warp.values[set] + lane * bytes, mine, bytes);
    if (++warp.arrived < 32) {
        wait(State::InWarp, line);
    } else {
        warp.arrived = 0;
        warp.round++;
        int first = int(&warp - warps.data()) * 32;
        for (int i = first; i < first + 32; i++) {
            if (threads[i]->state == State::InWarp) threads[i]->state = State::Ready;
        }
    }
    return warp.values[set];
}

void warp_barrier(int line) {
    char nothing = 0;
    exchange(&nothing, 1, line);
}

uint16_t round_bf16(float x) {
    uint32_t bits = __float_as_uint(x);
    if (x != x) return uint16_t(bits >> 16 | 0x40);
    return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static float half_of(uint32_t pair, int which) { return __uint_as_float(which ? pair & 0xffff0000u : pair << 16); }

void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, int line) {
    struct Operands {
        uint32_t a[4], b[2];
    } mine = {{a[0], a[1], a[2], a[3]}, {b0, b1}};
    auto all = static_cast<const Operands*>(exchange(&mine, sizeof mine, line));
    int g = current->lane / 4, t = current->lane % 4;
    for (int i = 0; i < 4; i++) {
        int row = g + i / 2 * 8, column = 2 * t + i % 2;
        float sum = 0.0f;
        for (int k = 0; k < 16; k++) {
            // Who holds A[row][k] and B[k][column], by the layout in the PTX manual.
            int pair = k % 8 / 2;
            uint32_t left = all[row % 8 * 4 + pair].a[row / 8 + k / 8 * 2];
            uint32_t right = all[column * 4 + pair].b[k / 8];
            sum += half_of(left, k % 2) * half_of(right, k % 2);
        }
        c[i] += sum;
    }
}

void load_matrices(uint32_t (&x)[4], const void* row, bool transposed, int line) {
    if (reinterpret_cast<uintptr_t>(row) % 16 != 0) fail("ldmatrix in line %d: a row is not aligned to 16 bytes", line);
    auto rows = static_cast<const uint16_t* const*>(exchange(&row, sizeof row, line));
    int g = current->lane / 4, t = current->lane % 4;
    for (int j = 0; j < 4; j++) {
        uint16_t low = transposed ? rows[8 * j + 2 * t][g] : rows[8 * j + g][2 * t];
        uint16_t high = transposed ? rows[8 * j + 2 * t + 1][g] : rows[8 * j + g][2 * t + 1];
        x[j] = low | uint32_t(high) << 16;
    }
}

// --- Launches --------------------------------------------------------------------------------------------------------------

enum Schedule { FORWARD, REVERSE, RANDOM };
static int schedule;
static uint64_t random_state;

static uint32_t random_below(uint32_t n) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return uint32_t((random_state >> 33) % n);
}

// The order of n things under the current schedule.
static void order(std::vector<uint32_t>& out, uint32_t n) {
    out.resize(n);
    for (uint32_t i = 0; i < n; i++) out[i] = schedule == REVERSE ? n - 1 - i : i;
    if (schedule != RANDOM) return;
    for (uint32_t i = n; i > 1; i--) std::swap(out[i - 1], out[random_below(i)]);
}

static void run_block() {
    memset(shared.get(), 0xff, shared_bytes);
    memset(shared.get() + shared_bytes, 0xa5, GUARD);
    waiting = done = 0;
    for (Warp& warp : warps) warp.round = warp.arrived = 0;
    for (int i = 0; i < block_threads; i++) {
        threads[i]->index = {uint32_t(i), 0, 0};
        threads[i]->lane = i % 32;
        threads[i]->warp = &warps[i / 32];
        start(*threads[i]);
    }
    std::vector<uint32_t> turns;
    while (done < block_threads) {
        order(turns, block_threads);
        bool moved = false;
        for (uint32_t turn : turns) {
            if (threads[turn]->state != State::Ready) continue;
            moved = true;
            to_thread(*threads[turn]);
            if (!error.empty()) return;
        }
        if (!moved) {
            for (int i = 0; i < block_threads; i++) {
                if (threads[i]->state == State::Done) continue;
                const char* what = threads[i]->state == State::AtBarrier ? "barrier" : "collective";
                return fail("thread %d waits for ever at the %s of line %d", i, what, threads[i]->line);
            }
        }
    }
    for (size_t i = 0; i < GUARD; i++) {
        if (shared.get()[shared_bytes + i] != 0xa5) return fail("a write %zu bytes behind the shared memory", i);
    }
}

}  // namespace shim

using namespace shim;

extern "C" {

// 0, 1, 2: blocks and threads forward, in reverse, in a random order.
void shim_schedule(int which) {
    schedule = which;
    random_state = 42;
}

// Null, or what went wrong; valid until the next launch.
const char* shim_launch(const char* name, const uint32_t* grid, uint32_t block, uint32_t bytes, void** arguments) {
    error.clear();
    const Kernel* kernel = kernels;
    while (kernel && strcmp(kernel->name, name) != 0) kernel = kernel->next;
    if (!kernel) {
        fail("there is no kernel %s", name);
    } else if (block == 0 || block % 32 != 0 || block > kernel->threads) {
        fail("%s: a block of %u threads; it must be a multiple of 32 and at most %u", name, block, kernel->threads);
    } else if (grid[0] == 0 || grid[1] == 0 || grid[2] == 0 || grid[1] > 65535 || grid[2] > 65535) {
        fail("%s: a grid of %u x %u x %u blocks", name, grid[0], grid[1], grid[2]);
    } else if (bytes > 99 << 10) {
        fail("%s: %u bytes of shared memory; devices of compute capability 8.6 have 99 KB", name, bytes);
    }
    if (!error.empty()) return error.c_str();
    running = kernel;
    running_arguments = arguments;
    block_threads = int(block);
    block_extent = {block, 1, 1};
    grid_extent = {grid[0], grid[1], grid[2]};
    while (threads.size() < block) threads.emplace_back(new Thread);
    warps.resize(block / 32);
    shared_bytes = bytes;
    shared.reset(static_cast<unsigned char*>(aligned(bytes)));
    std::vector<uint32_t> blocks;
    order(blocks, grid[0] * grid[1] * grid[2]);
    for (uint32_t index : blocks) {
        block_index = {index % grid[0], index / grid[0] % grid[1], index / grid[0] / grid[1]};
        run_block();
        if (!error.empty()) {
            char where[96];
            snprintf(where, sizeof where, "%s, block %u %u %u: ", name, block_index.x, block_index.y, block_index.z);
            error.insert(0, where);
            return error.c_str();
        }
    }
    return nullptr;
}

// Memory of the device: NaN, and guarded behind, so that what was never written and what is outside shows.
void* shim_allocate(size_t bytes) {
    auto memory = static_cast<unsigned char*>(aligned(bytes));
    if (!memory) return nullptr;
    memset(memory, 0xff, bytes);
    memset(memory + bytes, 0xa5, GUARD);
    return memory;
}

// Whether nothing was written behind the memory.
int shim_free(void* memory, size_t bytes) {
    int intact = 1;
    for (size_t i = 0; i < GUARD; i++) intact &= static_cast<unsigned char*>(memory)[bytes + i] == 0xa5;
    free(memory);
    return intact;
}
}
