// The scheduler of shim.h and the C interface that tests/cuda/host.rs calls.

#include "shim.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

// ucontext saves the signal mask with a system call at every switch; a switch of our own is twenty times as fast.
#if !defined(__x86_64__)
#define USE_UCONTEXT
#include <ucontext.h>
#endif

namespace shim {

enum class State { Ready, AtBarrier, InWarp, Done };

constexpr size_t STACK = 256 << 10;
#if defined(__SANITIZE_ADDRESS__)
constexpr size_t GUARD = 0;  // the sanitizer has its own
#else
constexpr size_t GUARD = 2048;
#endif

// Aligned as on the device, so that the sanitizers see misaligned accesses.
static void* aligned(size_t bytes) {
    void* memory = nullptr;
    return posix_memalign(&memory, 256, bytes + GUARD) == 0 ? memory : nullptr;
}

struct Free {
    void operator()(void* memory) { free(memory); }
};

struct Thread : Fiber {
    State state;
    int line;  // of the barrier or collective that it waits at
#ifdef USE_UCONTEXT
    ucontext_t context;
#else
    void* context;
#endif
    void* fake_stack = nullptr;  // the address sanitizer's
    std::unique_ptr<unsigned char[]> stack;
};

thread_local View* view;

// A multiprocessor: what one thread of the tests runs its launches on.
struct Machine : View {
    std::vector<std::unique_ptr<Thread>> threads;
    std::vector<Warp> warps;
    std::unique_ptr<unsigned char, Free> shared;
    size_t shared_bytes = 0;
    std::string error;
    const Kernel* running = nullptr;
    void** arguments = nullptr;
    int block_threads = 0, waiting = 0, done = 0, barrier_line = 0;
    int schedule = 0;
    uint64_t random_state = 0;
#ifdef USE_UCONTEXT
    ucontext_t scheduler;
#else
    void* scheduler = nullptr;
#endif
    void* fake_stack = nullptr;
    const void* stack = nullptr;  // the scheduler's, as the sanitizer knows it
    size_t stack_bytes = 0;
};

static Kernel* kernels;

static Machine& machine() { return *static_cast<Machine*>(view); }
static Thread& self() { return *static_cast<Thread*>(view->current); }

Kernel::Kernel(const char* name, unsigned threads, void (*kernel)(), Body body)
    : name(name), threads(threads), kernel(kernel), body(body), next(kernels) {
    kernels = this;
}

void* shared_memory() { return machine().shared.get(); }

static void fail(const char* format, ...) {
    if (!machine().error.empty()) return;
    char text[256];
    va_list values;
    va_start(values, format);
    vsnprintf(text, sizeof text, format, values);
    va_end(values);
    machine().error = text;
}

// --- Fibers ---------------------------------------------------------------------------------------------------------------

#ifdef USE_UCONTEXT
static void to_scheduler() {
    swapcontext(&self().context, &machine().scheduler);
}
static void to_thread(Thread& thread) {
    view->current = &thread;
    swapcontext(&machine().scheduler, &thread.context);
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
// The sanitizer must know which stack is in use.
static void leave([[maybe_unused]] void** fake, [[maybe_unused]] const void* stack, [[maybe_unused]] size_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(fake, stack, bytes);
#endif
}
static void arrive([[maybe_unused]] void* fake, [[maybe_unused]] const void** from, [[maybe_unused]] size_t* bytes) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake, from, bytes);
#endif
}
static void to_scheduler() {
    leave(self().state == State::Done ? nullptr : &self().fake_stack, machine().stack, machine().stack_bytes);
    shim_switch(&self().context, machine().scheduler);
    arrive(self().fake_stack, &machine().stack, &machine().stack_bytes);
}
static void to_thread(Thread& thread) {
    view->current = &thread;
    leave(&machine().fake_stack, thread.stack.get(), STACK);
    shim_switch(&machine().scheduler, thread.context);
    arrive(machine().fake_stack, nullptr, nullptr);
}
#endif

static void run_thread() {
#ifndef USE_UCONTEXT
    arrive(nullptr, &machine().stack, &machine().stack_bytes);
#endif
    machine().running->body(machine().running->kernel, machine().arguments);
    self().state = State::Done;
    machine().done++;
    to_scheduler();
    abort();  // a finished fiber is not resumed
}

static void start(Thread& thread) {
    if (!thread.stack) thread.stack.reset(new unsigned char[STACK]);
    thread.state = State::Ready;
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(thread.stack.get(), STACK);  // a fiber that was given up left its variables there
    thread.fake_stack = nullptr;
#endif
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
    self().state = state;
    self().line = line;
    to_scheduler();
}

// --- Collectives ---------------------------------------------------------------------------------------------------------

void barrier(int line) {
    Machine& m = machine();
    if (m.waiting > 0 && line != m.barrier_line) {
        fail("threads wait at the barriers of lines %d and %d", m.barrier_line, line);
    }
    m.barrier_line = line;
    if (++m.waiting < m.block_threads) return wait(State::AtBarrier, line);
    m.waiting = 0;
    for (int i = 0; i < m.block_threads; i++) {
        if (m.threads[i]->state == State::AtBarrier) m.threads[i]->state = State::Ready;
    }
}

void meet(int line) {
    Warp& warp = *self().warp;
    if (warp.arrived > 0 && line != warp.line) {
        fail("lanes of a warp are at the collectives of lines %d and %d", warp.line, line);
    }
    warp.line = line;
    if (++warp.arrived < 32) return wait(State::InWarp, line);
    warp.arrived = 0;
    warp.round++;
    auto* first = &machine().threads[(&warp - machine().warps.data()) * 32];
    for (int i = 0; i < 32; i++) {
        if (first[i]->state == State::InWarp) first[i]->state = State::Ready;
    }
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
    const Operands* all = exchange(mine, line);
    Warp& warp = *self().warp;
    if (warp.decoded != warp.round) {
        // The elements of each lane, by the layout in the PTX manual.
        for (int lane = 0; lane < 32; lane++) {
            int g = lane / 4, t = lane % 4;
            for (int half = 0; half < 2; half++) {
                for (int i = 0; i < 4; i++) {
                    warp.left[g + i % 2 * 8][2 * t + i / 2 * 8 + half] = half_of(all[lane].a[i], half);
                }
                for (int i = 0; i < 2; i++) warp.right[g][2 * t + i * 8 + half] = half_of(all[lane].b[i], half);
            }
        }
        warp.decoded = warp.round;
    }
    int g = self().lane / 4, t = self().lane % 4;
    for (int i = 0; i < 4; i++) {
        const float *row = warp.left[g + i / 2 * 8], *column = warp.right[2 * t + i % 2];
        float sum = 0.0f;
        for (int k = 0; k < 16; k++) sum += row[k] * column[k];
        c[i] += sum;
    }
}

void load_matrices(uint32_t (&x)[4], const void* row, bool transposed, int line) {
    if (reinterpret_cast<uintptr_t>(row) % 16 != 0) fail("ldmatrix in line %d: a row is not aligned to 16 bytes", line);
    auto rows = exchange(static_cast<const uint16_t*>(row), line);
    int g = self().lane / 4, t = self().lane % 4;
    for (int j = 0; j < 4; j++) {
        uint16_t low = transposed ? rows[8 * j + 2 * t][g] : rows[8 * j + g][2 * t];
        uint16_t high = transposed ? rows[8 * j + 2 * t + 1][g] : rows[8 * j + g][2 * t + 1];
        x[j] = low | uint32_t(high) << 16;
    }
}

// --- Launches --------------------------------------------------------------------------------------------------------------

enum Schedule { FORWARD, REVERSE, RANDOM };

static uint32_t random_below(uint32_t n) {
    machine().random_state = machine().random_state * 6364136223846793005u + 1442695040888963407u;
    return uint32_t((machine().random_state >> 33) % n);
}

// The order of n things under the current schedule.
static void order(std::vector<uint32_t>& out, uint32_t n) {
    out.resize(n);
    for (uint32_t i = 0; i < n; i++) out[i] = machine().schedule == REVERSE ? n - 1 - i : i;
    if (machine().schedule != RANDOM) return;
    for (uint32_t i = n; i > 1; i--) std::swap(out[i - 1], out[random_below(i)]);
}

static void run_block(std::vector<uint32_t>& turns) {
    Machine& m = machine();
    unsigned char* shared = m.shared.get();
    memset(shared, 0xff, m.shared_bytes);
    memset(shared + m.shared_bytes, 0xa5, GUARD);
    m.waiting = m.done = 0;
    for (Warp& warp : m.warps) warp.round = warp.arrived = warp.decoded = 0;
    for (int i = 0; i < m.block_threads; i++) {
        m.threads[i]->index = {uint32_t(i), 0, 0};
        m.threads[i]->lane = i % 32;
        m.threads[i]->warp = &m.warps[i / 32];
        start(*m.threads[i]);
    }
    while (m.done < m.block_threads) {
        if (m.schedule == RANDOM) order(turns, m.block_threads);
        bool moved = false;
        for (uint32_t turn : turns) {
            if (m.threads[turn]->state != State::Ready) continue;
            moved = true;
            to_thread(*m.threads[turn]);
            if (!m.error.empty()) return;
        }
        for (int i = 0; i < m.block_threads && !moved; i++) {
            if (m.threads[i]->state == State::Done) continue;
            const char* what = m.threads[i]->state == State::AtBarrier ? "barrier" : "collective";
            return fail("thread %d waits for ever at the %s of line %d", i, what, m.threads[i]->line);
        }
    }
    for (size_t i = 0; i < GUARD; i++) {
        if (shared[m.shared_bytes + i] != 0xa5) return fail("a write %zu bytes behind the shared memory", i);
    }
}

static void run(const char* name, const uint32_t* grid, uint32_t block, uint32_t bytes, void** arguments) {
    Machine& m = machine();
    const Kernel* kernel = kernels;
    while (kernel && strcmp(kernel->name, name) != 0) kernel = kernel->next;
    if (!kernel) return fail("there is no kernel of this name");
    if (block == 0 || block % 32 != 0 || block > kernel->threads) {
        return fail("a block of %u threads; it must be a multiple of 32 and at most %u", block, kernel->threads);
    }
    if (grid[0] == 0 || grid[1] == 0 || grid[2] == 0 || grid[1] > 65535 || grid[2] > 65535) {
        return fail("a grid of %u x %u x %u blocks", grid[0], grid[1], grid[2]);
    }
    if (bytes > 99 << 10) {
        return fail("%u bytes of shared memory; devices of compute capability 8.6 have 99 KB", bytes);
    }
    m.running = kernel;
    m.arguments = arguments;
    m.block_threads = int(block);
    m.block_extent = {block, 1, 1};
    m.grid_extent = {grid[0], grid[1], grid[2]};
    while (m.threads.size() < block) m.threads.emplace_back(new Thread);
    m.warps.resize(block / 32);
    m.shared_bytes = bytes;
    m.shared.reset(static_cast<unsigned char*>(aligned(bytes)));
    std::vector<uint32_t> blocks, turns;
    order(blocks, grid[0] * grid[1] * grid[2]);
    order(turns, block);
    for (uint32_t index : blocks) {
        m.block_index = {index % grid[0], index / grid[0] % grid[1], index / grid[0] / grid[1]};
        run_block(turns);
        if (!m.error.empty()) return;
    }
}

}  // namespace shim

using namespace shim;

extern "C" {

// Run a kernel with blocks and threads forward (0), in reverse (1) or in a random order (2), and with one of the mutations
// that mutations.rs compiled into it, or none (-1). Null, or what went wrong; valid until the thread's next launch.
const char* shim_launch(int schedule, int mutation, const char* name, const uint32_t* grid, uint32_t block,
                        uint32_t bytes, void** arguments) {
    static thread_local std::unique_ptr<Machine> mine;
    if (!mine) mine.reset(new Machine());
    view = mine.get();
    Machine& m = machine();
    m.error.clear();
    m.schedule = schedule;
    m.mutation = mutation;
    m.random_state = 42;
    run(name, grid, block, bytes, arguments);
    if (m.error.empty()) return nullptr;
    char where[96];
    snprintf(where, sizeof where, "%s, block %u %u %u: ", name, m.block_index.x, m.block_index.y, m.block_index.z);
    m.error.insert(0, where);
    return m.error.c_str();
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
