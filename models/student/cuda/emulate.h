// Runs CUDA kernels on the CPU, for tests: each thread of a block is a fibre, collectives are meeting points.
//
// Made for checking the arithmetic and the indices of kernels.cu where no GPU is at hand; it says nothing about races
// between blocks, alignment faults of real hardware or speed. Needs a C++ compiler with _Float16 (GCC 12, Clang 15).
#pragma once
#include <ucontext.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

#define __device__
#define __shared__ static
#define KERNEL static void
#define __grid_constant__
#define LAUNCH_BOUNDS(n)
#define __align__(n) __attribute__((aligned(n)))
#define DYNAMIC_SHARED(NAME) static float *const NAME = emulator::shared

struct Dim3 {
    unsigned x = 1, y = 1, z = 1;
};

typedef _Float16 __half;
struct __half2 {
    __half x, y;
};
struct uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(16) float4 {
    float x, y, z, w;
};

static Dim3 blockIdx, blockDim, gridDim;

namespace emulator {
constexpr size_t STACK = 256 * 1024;
alignas(16) static float shared[64 * 1024];
struct Fibre {
    ucontext_t context;
    std::vector<char> stack;
    bool done = false;
    unsigned barriers = 0;  // how many barriers of the block it has reached
};
static std::vector<Fibre> fibres;
static ucontext_t scheduler;
static unsigned current;
static std::function<void()> body;
static unsigned exchange[32][32][8];  // [warp][lane][word]

static void entry() {
    body();
    fibres[current].done = true;
    swapcontext(&fibres[current].context, &scheduler);
}

// Every fibre runs to its next meeting point before any goes on: stricter than the hardware, and the same each time.
static void meet() { swapcontext(&fibres[current].context, &scheduler); }

static void block() {
    for (auto &f : fibres) {
        f.done = false;
        f.barriers = 0;
        getcontext(&f.context);
        f.context.uc_stack.ss_sp = f.stack.data();
        f.context.uc_stack.ss_size = f.stack.size();
        f.context.uc_link = nullptr;
        makecontext(&f.context, entry, 0);
    }
    for (size_t left = fibres.size(); left > 0;) {
        left = 0;
        for (current = 0; current < fibres.size(); current++)
            if (!fibres[current].done) {
                swapcontext(&scheduler, &fibres[current].context);
                left += !fibres[current].done;
            }
    }
}

template <typename F>
static void launch(Dim3 grid, unsigned threads, F kernel) {
    gridDim = grid;
    blockDim = {threads, 1, 1};
    fibres.resize(threads);
    for (auto &f : fibres) f.stack.resize(STACK);
    body = kernel;
    for (blockIdx.z = 0; blockIdx.z < grid.z; blockIdx.z++)
        for (blockIdx.y = 0; blockIdx.y < grid.y; blockIdx.y++)
            for (blockIdx.x = 0; blockIdx.x < grid.x; blockIdx.x++) block();
}
}  // namespace emulator

struct ThreadIdx {
    struct {
        operator unsigned() const { return emulator::current; }
    } x;
};
static ThreadIdx threadIdx;

// Warps may come to it after different numbers of their own meeting points.
static void __syncthreads() {
    const unsigned mine = ++emulator::fibres[emulator::current].barriers;
    const auto late = [&] {
        for (const auto &f : emulator::fibres)
            if (!f.done && f.barriers < mine) return true;
        return false;
    };
    do emulator::meet();
    while (late());
}
static inline float __half2float(__half h) { return (float)h; }
static inline __half __float2half(float f) { return (__half)f; }
static inline __half2 __floats2half2_rn(float a, float b) { return {(__half)a, (__half)b}; }
// Rounded once, as the hardware does it.
static inline __half2 __hadd2(__half2 a, __half2 b) { return {(__half)((float)a.x + (float)b.x), (__half)((float)a.y + (float)b.y)}; }
static inline __half2 __hmul2(__half2 a, __half2 b) { return {(__half)((float)a.x * (float)b.x), (__half)((float)a.y * (float)b.y)}; }
static inline __half2 __hfma2(__half2 a, __half2 b, __half2 c) {
    return {(__half)((double)a.x * (double)b.x + (double)c.x), (__half)((double)a.y * (double)b.y + (double)c.y)};
}
// The C library has a function of this name.
#define __expf(x) std::exp((float)(x))
static inline float rsqrtf(float x) { return 1.f / std::sqrt(x); }
static inline int min(int a, int b) { return a < b ? a : b; }
static inline unsigned min(unsigned a, unsigned b) { return a < b ? a : b; }
using std::fmax;

static float __shfl_xor_sync(unsigned, float x, int with) {
    const unsigned warp = emulator::current / 32, lane = emulator::current % 32;
    std::memcpy(&emulator::exchange[warp][lane][0], &x, 4);
    emulator::meet();
    float y;
    std::memcpy(&y, &emulator::exchange[warp][lane ^ with][0], 4);
    emulator::meet();
    return y;
}

static unsigned __shfl_sync(unsigned, unsigned x, int from) {
    const unsigned warp = emulator::current / 32, lane = emulator::current % 32;
    emulator::exchange[warp][lane][0] = x;
    emulator::meet();
    const unsigned y = emulator::exchange[warp][from][0];
    emulator::meet();
    return y;
}

// ldmatrix.x4.trans, from the PTX ISA: the thread gets of each matrix the column lane / 4 of rows 2 (lane % 4) and the next.
static void emulated_ldmatrix(unsigned (&out)[4], const __half *row) {
    const unsigned warp = emulator::current / 32, lane = emulator::current % 32;
    std::memcpy(emulator::exchange[warp][lane], &row, sizeof row);
    emulator::meet();
    for (unsigned m = 0; m < 4; m++) {
        __half pair[2];
        for (unsigned i = 0; i < 2; i++) {
            const __half *from;
            std::memcpy(&from, emulator::exchange[warp][8 * m + lane % 4 * 2 + i], sizeof from);
            pair[i] = from[lane / 4];
        }
        std::memcpy(&out[m], pair, 4);
    }
    emulator::meet();
}

// mma.m16n8k16, written from the element numbers of the PTX ISA and not from the kernel that uses it: element i of A
// stands at row group + 8 (i / 2 odd), column quad * 2 + i % 2 + 8 (i >= 4); of B at row quad * 2 + i % 2 + 8 (i >= 2),
// column group; of C and D at row group + 8 (i >= 2), column quad * 2 + i % 2.
static void emulated_mma(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    const unsigned warp = emulator::current / 32, lane = emulator::current % 32;
    const unsigned words[6] = {a[0], a[1], a[2], a[3], b0, b1};
    std::memcpy(emulator::exchange[warp][lane], words, sizeof words);
    emulator::meet();
    const auto element = [&](unsigned of, int first_word, int i) {
        __half pair[2];
        std::memcpy(pair, &emulator::exchange[warp][of][first_word + i / 2], 4);
        return (float)pair[i % 2];
    };
    for (int i = 0; i < 4; i++) {
        const int row = lane / 4 + (i >= 2 ? 8 : 0), column = lane % 4 * 2 + i % 2;
        float sum = d[i];
        for (int k = 0; k < 16; k++) {
            const int ai = (k >= 8 ? 4 : 0) + (row >= 8 ? 2 : 0) + k % 2, bi = (k >= 8 ? 2 : 0) + k % 2;
            sum += element(row % 8 * 4 + k % 8 / 2, 0, ai) * element(column * 4 + k % 8 / 2, 4, bi);
        }
        d[i] = sum;
    }
    emulator::meet();
}
