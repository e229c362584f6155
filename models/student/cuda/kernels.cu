// Kernels of the student on NVIDIA GPUs (sm_80 and later: Orin is 87, Hopper 90).
//
// Products of a few rows with quantised weights on the tensor cores, each weight read once; attention of many short
// branches over one shared prefix without materialised scores or repeated heads, also of a frame over itself; and the
// small steps between. Compiled by build.rs for 87 and 90, and to PTX for 80; compiled as C++ with emulate.h by the tests, which run every kernel
// on the CPU against plain loops.
//
// Terms: row = one token of one branch or of the prefix, or one patch; query = one head of one row; group = query heads
// that share one head of keys and values (grouped-query attention); split = a part of the prefix that one block attends;
// tile = 16 rows of a weight matrix; unit = the part of a tile that one warp takes at a time (32 or 256 of k).
// Layouts: keys and values f16, [kv head][capacity][dim] for the prefix, [branch][kv head][capacity][dim] for branches.
// What goes into a product is f16; sums are f32.

#ifdef EMULATE
#include "emulate.h"
#else
#include <cuda_fp16.h>
#define KERNEL extern "C" __global__ void
#define DYNAMIC_SHARED(NAME) extern __shared__ __align__(16) float NAME[]
#define LAUNCH_BOUNDS(THREADS) __launch_bounds__(THREADS)
#endif

// Where a row stands. `branch` -1: the prefix itself; -2: nowhere, the row is not one. `at`: its place in its cache. `position`: for the rotary angles.
// `sees`: how many tokens of the prefix it attends (a row of the prefix: those up to itself).
struct RowPlace {
    int branch;
    int at;
    int position;
    int sees;
};

// What a pass is about; in memory and not in the launches, so that a recorded graph serves every pass.
struct Header {
    int rows;
    int prefix;       // tokens of the prefix that are there when the pass has stored its own
    int branches;
    int marked;       // rows whose logits are wanted
    int branch_len[16];
};

enum Type { F16 = 0, Q8_0 = 1, Q4_K = 2, Q6_K = 3 };

// A weight matrix in tiles. `first`: where its results begin in a row of the output.
struct Matrix {
    const unsigned char *data;
    const float *bias;  // or null
    int type;
    int n;
    int k;
    int first;
    int turned;         // half a head's width where a tile's rows are the two halves of rotary pairs, else 0
};

struct Matrices {
    Matrix of[3];
    int count;
};

__device__ static inline unsigned pack(float a, float b) {
    __half2 h = __floats2half2_rn(a, b);
    return *reinterpret_cast<unsigned *>(&h);
}

// D += A B for 16 x 8 x 16, f16 in, f32 out. Fragment layout: PTX ISA, "Matrix fragments for mma.m16n8k16".
__device__ static inline void mma(float (&d)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0, unsigned b1) {
#ifdef EMULATE
    const unsigned a[4] = {a0, a1, a2, a3};
    emulated_mma(d, a, b0, b1);
#else
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
#endif
}

// Four 8 x 8 matrices of halves, transposed; lane i points to row i % 8 of matrix i / 8 (PTX ISA, "ldmatrix").
__device__ static inline void load_transposed(unsigned (&out)[4], const __half *row) {
#ifdef EMULATE
    emulated_ldmatrix(out, row);
#else
    const unsigned at = (unsigned)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(at)
                 : "memory");
#endif
}

// Pairs of halves in one word.
__device__ static inline unsigned add2(unsigned a, unsigned b) {
    __half2 r = __hadd2(*reinterpret_cast<__half2 *>(&a), *reinterpret_cast<__half2 *>(&b));
    return *reinterpret_cast<unsigned *>(&r);
}
__device__ static inline unsigned mul2(unsigned a, unsigned b) {
    __half2 r = __hmul2(*reinterpret_cast<__half2 *>(&a), *reinterpret_cast<__half2 *>(&b));
    return *reinterpret_cast<unsigned *>(&r);
}
__device__ static inline unsigned fma2(unsigned a, unsigned b, unsigned c) {
    __half2 r = __hfma2(*reinterpret_cast<__half2 *>(&a), *reinterpret_cast<__half2 *>(&b), *reinterpret_cast<__half2 *>(&c));
    return *reinterpret_cast<unsigned *>(&r);
}
__device__ static inline unsigned twice(unsigned half) { return (half & 0xffffu) * 0x10001u; }
__device__ static inline float low_float(unsigned word) {
    __half2 h = *reinterpret_cast<__half2 *>(&word);
    return __half2float(h.x);
}
__device__ static inline float high_float(unsigned word) {
    __half2 h = *reinterpret_cast<__half2 *>(&word);
    return __half2float(h.y);
}

// ---- Weights in tiles.
//
// A warp takes a unit as the left factor of mma.m16n8k16: lane = (group, quad) holds of rows `group` and `group` + 8 the
// eight values 8 quad .. 8 quad + 7 of each 32 of k, so that a lane's part of the right factor is 16 bytes in a row. The
// order of k within a product is free, as long as both factors have the same. Bytes stand in the order in which lanes
// read them, 16 a lane. A word of quants has its even pair in bytes 0 and 2 and its odd one in bytes 1 and 3, where two
// halves have their low bits.

__device__ static inline int unit_k(int type) { return type == Q4_K || type == Q6_K ? 256 : 32; }

// Row of the matrix that is row `inner` of a tile. In turned tiles rows i and i + 8 are a rotary pair, so that the warp
// that multiplies them can turn them.
__device__ static inline int row_of(int tile, int inner, int turned) {
    if (turned == 0) return tile * 16 + inner;
    const int tiles = turned / 8;
    return tile / tiles * 2 * turned + inner / 8 * turned + tile % tiles * 8 + inner % 8;
}

__device__ static inline int unit_bytes(int type) {
    switch (type) {
    case Q4_K: return 256 + 2048;               // 16 heads of 16 bytes; 4 x 32 lanes x 16 bytes
    case Q6_K: return 2048 + 1024 + 256 + 32;   // low bits, high bits, 16 scales a row, one factor a row
    case Q8_0: return 512 + 32;                 // 32 lanes x 16 bytes, one factor a row
    default: return 1024;                       // 2 x 32 lanes x 16 bytes
    }
}

__device__ static inline const unsigned char *unit_at(const Matrix &m, int tile, int unit) {
    return m.data + ((size_t)tile * (m.k / unit_k(m.type)) + unit) * unit_bytes(m.type);
}

// A half is 1024 and more where its bits are 0x6400 and a small whole number: that turns bits to values in one operation.
constexpr unsigned THOUSANDS = 0x64006400u, LESS_1024 = 0xe400e400u, LESS_1056 = 0xe420e420u, LESS_1152 = 0xe480e480u;

__device__ static inline unsigned four_bits(unsigned word, int shift, unsigned scale) {
    const unsigned whole = add2(((word >> shift) & 0x000f000fu) | THOUSANDS, LESS_1024);
    return fma2(whole, twice(scale), twice(scale >> 16));
}

__device__ static inline unsigned six_bits(unsigned word, int shift, unsigned high, int pair, unsigned scale) {
    const unsigned top = pair < 2 ? high << (4 - 2 * pair) : high >> (2 * pair - 4);
    return mul2(add2((((word >> shift) & 0x000f000fu) | THOUSANDS) | (top & 0x00300030u), LESS_1056), scale);
}

__device__ static inline unsigned eight_bits(unsigned word, int shift, unsigned scale) {
    return mul2(add2((((word ^ 0x80808080u) >> shift) & 0x00ff00ffu) | THOUSANDS, LESS_1152), scale);
}

// Gives `take` the left factors of each 32 of k of a unit: `a[0..4]` the first product's, `a[4..8]` the second's.
template <typename Take>
__device__ static inline void decode_q4k(const unsigned char *unit, int lane, Take take) {
    const int group = lane / 4, quad = lane % 4;
    const uint4 *heads = reinterpret_cast<const uint4 *>(unit), *quants = heads + 16;
    uint4 word[4];
#pragma unroll
    for (int j = 0; j < 4; j++) word[j] = quants[j * 32 + lane];
    // The four lanes of a row share its eight scales: each makes two, of both rows.
    unsigned scale[2][2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const uint4 head = heads[group + 8 * r];
        const unsigned low = quad == 0 ? head.y : quad == 1 ? head.y : quad == 2 ? head.z : head.w;
        const unsigned high = quad == 1 ? head.z : quad == 2 ? head.w : 0u;
        const unsigned at = 24u * quad & 31u, bits = at == 0 ? low : low >> at | (high << (31 - at)) << 1;
        const float d = low_float(head.x), least = high_float(head.x);
#pragma unroll
        for (int i = 0; i < 2; i++)
            scale[r][i] = pack(d * (float)(bits >> (6 * i) & 63u), -least * (float)(bits >> (12 + 6 * i) & 63u));
    }
#pragma unroll
    for (int j = 0; j < 4; j++)
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const unsigned s0 = __shfl_sync(0xffffffffu, scale[0][i], (lane & 28) | j);
            const unsigned s1 = __shfl_sync(0xffffffffu, scale[1][i], (lane & 28) | j);
            const uint4 w = word[j];
            const unsigned a[8] = {four_bits(w.x, 4 * i, s0), four_bits(w.z, 4 * i, s1), four_bits(w.x, 8 + 4 * i, s0),
                                   four_bits(w.z, 8 + 4 * i, s1), four_bits(w.y, 4 * i, s0), four_bits(w.w, 4 * i, s1),
                                   four_bits(w.y, 8 + 4 * i, s0), four_bits(w.w, 8 + 4 * i, s1)};
            take(64 * j + 32 * i, a);
        }
}

template <typename Take>
__device__ static inline void decode_q6k(const unsigned char *unit, int lane, Take take) {
    const int group = lane / 4, quad = lane % 4;
    const uint4 *low = reinterpret_cast<const uint4 *>(unit);
    const uint2 *high = reinterpret_cast<const uint2 *>(unit + 2048);
    const uint4 *scales = reinterpret_cast<const uint4 *>(unit + 3072);
    const __half *factors = reinterpret_cast<const __half *>(unit + 3328);
    uint4 word[4];
    uint2 top[4];
#pragma unroll
    for (int j = 0; j < 4; j++) word[j] = low[j * 32 + lane], top[j] = high[j * 32 + lane];
    const uint4 first = scales[group], second = scales[group + 8];
    const unsigned of0[4] = {first.x, first.y, first.z, first.w}, of1[4] = {second.x, second.y, second.z, second.w};
    const float d0 = __half2float(factors[group]), d1 = __half2float(factors[group + 8]);
#pragma unroll
    for (int j = 0; j < 4; j++)
#pragma unroll
        for (int i = 0; i < 2; i++) {
            // One scale for 16 values: the lanes of quads 0 and 1 have the first 16 of the 32.
            const int up = 24 - 16 * i - 8 * (quad / 2);
            const float f0 = d0 * (float)((int)(of0[j] << up) >> 24), f1 = d1 * (float)((int)(of1[j] << up) >> 24);
            const unsigned s0 = pack(f0, f0), s1 = pack(f1, f1);
            const uint4 w = word[j];
            const uint2 h = top[j];
            const int s = 4 * i, p = 2 * i;
            const unsigned a[8] = {six_bits(w.x, s, h.x, p, s0),         six_bits(w.z, s, h.y, p, s1),
                                   six_bits(w.x, 8 + s, h.x, p + 1, s0), six_bits(w.z, 8 + s, h.y, p + 1, s1),
                                   six_bits(w.y, s, h.x, p + 4, s0),     six_bits(w.w, s, h.y, p + 4, s1),
                                   six_bits(w.y, 8 + s, h.x, p + 5, s0), six_bits(w.w, 8 + s, h.y, p + 5, s1)};
            take(64 * j + 32 * i, a);
        }
}

template <typename Take>
__device__ static inline void decode_q8(const unsigned char *unit, int lane, Take take) {
    const uint4 w = reinterpret_cast<const uint4 *>(unit)[lane];
    const __half *factors = reinterpret_cast<const __half *>(unit + 512);
    const float d0 = __half2float(factors[lane / 4]), d1 = __half2float(factors[lane / 4 + 8]);
    const unsigned s0 = pack(d0, d0), s1 = pack(d1, d1);
    const unsigned a[8] = {eight_bits(w.x, 0, s0), eight_bits(w.z, 0, s1), eight_bits(w.x, 8, s0), eight_bits(w.z, 8, s1),
                           eight_bits(w.y, 0, s0), eight_bits(w.w, 0, s1), eight_bits(w.y, 8, s0), eight_bits(w.w, 8, s1)};
    take(0, a);
}

template <typename Take>
__device__ static inline void decode_f16(const unsigned char *unit, int lane, Take take) {
    const uint4 *of = reinterpret_cast<const uint4 *>(unit);
    const uint4 r = of[lane], s = of[32 + lane];
    const unsigned a[8] = {r.x, s.x, r.y, s.y, r.z, s.z, r.w, s.w};
    take(0, a);
}

template <typename Take>
__device__ static inline void decode(int type, const unsigned char *unit, int lane, Take take) {
    switch (type) {
    case Q4_K: return decode_q4k(unit, lane, take);
    case Q6_K: return decode_q6k(unit, lane, take);
    case Q8_0: return decode_q8(unit, lane, take);
    default: return decode_f16(unit, lane, take);
    }
}

// Quant of value `e` of sub-block `s` (32 values each) of a Q6_K block as files have it, 0 to 63.
__device__ static inline unsigned q6_of(const unsigned char *block, int s, int e) {
    const int half = s / 4, part = s % 4;
    const unsigned low = block[64 * half + e + 32 * (part % 2)], high = block[128 + 32 * half + e];
    return (part < 2 ? low & 15u : low >> 4) | (high >> (2 * part) & 3u) << 4;
}

// Bytes of a file's tensor (rows of blocks, as ggml lays them) to tiles. Rows past n are zeros. One thread for each lane
// of each unit.
KERNEL pack_tiles(const unsigned char *from, unsigned char *to, int type, int n, int k, int tiles, int turned) {
    const int units = k / unit_k(type), lane = threadIdx.x % 32, group = lane / 4, quad = lane % 4;
    const int block = type == Q4_K ? 144 : type == Q6_K ? 210 : type == Q8_0 ? 34 : 64;
    const int warps = gridDim.x * (blockDim.x / 32);
    for (int at = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32; at < tiles * units; at += warps) {
        const int tile = at / units, unit = at % units;
        unsigned char *out = to + (size_t)at * unit_bytes(type);
        for (int r = 0; r < 2; r++) {
            const int row = row_of(tile, group + 8 * r, turned);
            const bool there = row < n;
            const unsigned char *raw = from + ((size_t)(there ? row : 0) * units + unit) * block;
            unsigned *words = reinterpret_cast<unsigned *>(out);
            const auto byte = [&](int i) { return there ? (unsigned)raw[i] : 0u; };
            const auto word = [&](int i) { return byte(i) | byte(i + 2) << 8 | byte(i + 1) << 16 | byte(i + 3) << 24; };
            if (type == Q4_K) {
                for (int j = 0; j < 4; j++)
                    for (int i = 0; i < 2; i++) words[64 + (j * 32 + lane) * 4 + 2 * r + i] = word(16 + 32 * j + 8 * quad + 4 * i);
                if (quad == 0) {
                    unsigned *head = words + 4 * (group + 8 * r);
                    head[0] = byte(0) | byte(1) << 8 | byte(2) << 16 | byte(3) << 24;
                    unsigned char *packed = reinterpret_cast<unsigned char *>(head + 1);
                    for (int q = 0; q < 4; q++) {
                        unsigned bits = 0;
                        for (int i = 0; i < 2; i++) {
                            const int s = 2 * q + i;
                            const unsigned scale = s < 4 ? byte(4 + s) & 63u : (byte(8 + s) & 15u) | (byte(s) >> 6) << 4;
                            const unsigned least = s < 4 ? byte(8 + s) & 63u : byte(8 + s) >> 4 | (byte(4 + s) >> 6) << 4;
                            bits |= scale << (6 * i) | least << (12 + 6 * i);
                        }
                        for (int b = 0; b < 3; b++) packed[3 * q + b] = (unsigned char)(bits >> (8 * b));
                    }
                }
            } else if (type == Q6_K) {
                const auto quant = [&](int s, int e) { return there ? q6_of(raw, s, e) : 0u; };
                for (int j = 0; j < 4; j++) {
                    unsigned top = 0;
                    for (int i = 0; i < 2; i++) {
                        unsigned low = 0;
                        const int e = 8 * quad + 4 * i;
                        for (int b = 0; b < 4; b++) {
                            const int v = e + (b == 1 ? 2 : b == 2 ? 1 : b);
                            low |= ((quant(2 * j, v) & 15u) | (quant(2 * j + 1, v) & 15u) << 4) << (8 * b);
                        }
                        words[(j * 32 + lane) * 4 + 2 * r + i] = low;
                        for (int hi = 0; hi < 2; hi++)
                            for (int pair = 0; pair < 2; pair++)
                                for (int b = 0; b < 2; b++)
                                    top |= quant(2 * j + hi, e + 2 * pair + b) >> 4 << (16 * b + 2 * (4 * i + 2 * hi + pair));
                    }
                    reinterpret_cast<unsigned *>(out + 2048)[(j * 32 + lane) * 2 + r] = top;
                }
                if (quad == 0) {
                    for (int s = 0; s < 16; s++) out[3072 + 16 * (group + 8 * r) + s] = (unsigned char)byte(192 + s);
                    for (int b = 0; b < 2; b++) out[3328 + 2 * (group + 8 * r) + b] = (unsigned char)byte(208 + b);
                }
            } else if (type == Q8_0) {
                for (int i = 0; i < 2; i++) words[lane * 4 + 2 * r + i] = word(2 + 8 * quad + 4 * i);
                if (quad == 0)
                    for (int b = 0; b < 2; b++) out[512 + 2 * (group + 8 * r) + b] = (unsigned char)byte(b);
            } else {
                for (int b = 0; b < 16; b++) out[512 * r + 16 * lane + b] = (unsigned char)byte(16 * quad + b);
            }
        }
    }
}

// Tiles to rows of halves, n x k (whole tiles): the factor of a large product.
KERNEL unpack_tiles(const __grid_constant__ Matrix m, __half *out) {
    const int units = m.k / unit_k(m.type), tiles = (m.n + 15) / 16, lane = threadIdx.x % 32;
    const int warps = gridDim.x * (blockDim.x / 32);
    for (int at = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32; at < tiles * units; at += warps) {
        const int tile = at / units, unit = at % units;
        __half *to = out + unit * unit_k(m.type) + lane % 4 * 8;
        const size_t low = (size_t)row_of(tile, lane / 4, m.turned) * m.k, high = (size_t)row_of(tile, lane / 4 + 8, m.turned) * m.k;
        decode(m.type, unit_at(m, tile, unit), lane, [&](int k, const unsigned (&a)[8]) {
            *reinterpret_cast<uint4 *>(to + low + k) = uint4{a[0], a[2], a[4], a[6]};
            *reinterpret_cast<uint4 *>(to + high + k) = uint4{a[1], a[3], a[5], a[7]};
        });
    }
}

// Rows of the embedding, f32. One warp for a unit of a row's tile; of the 16 rows it decodes one is kept.
KERNEL embed(const __grid_constant__ Matrix m, const unsigned *tokens, float *out, int rows) {
    const int units = m.k / unit_k(m.type), lane = threadIdx.x % 32, warps = gridDim.x * (blockDim.x / 32);
    for (int at = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32; at < rows * units; at += warps) {
        const int row = at / units, unit = at % units;
        const unsigned token = tokens[row];
        const int tile = token / 16, inner = token % 16;
        float *to = out + (size_t)row * m.k + unit * unit_k(m.type) + lane % 4 * 8;
        decode(m.type, unit_at(m, tile, unit), lane, [&](int k, const unsigned (&a)[8]) {
            if (lane / 4 != inner % 8) return;
            for (int i = 0; i < 4; i++) {
                const unsigned pair = inner < 8 ? a[2 * i] : a[2 * i + 1];
                to[k + 2 * i] = low_float(pair), to[k + 2 * i + 1] = high_float(pair);
            }
        });
    }
}

// ---- Products of few rows.

// Results of silu(gate) * up are held 64 times smaller than they are: large models have values beyond an f16. So is the
// stream where it is multiplied.
constexpr float DOWN_SCALE = 64.f, STREAM_SCALE = 64.f;

// STORE: f32 plus bias. ADD: into the stream, which is left ready for the next product. GATED: silu(gate) up, f16.
// TURNED: queries, keys and values, turned by their rotary angles and put where attention reads them.
enum Mode { STORE = 0, ADD = 1, GATED = 2, TURNED = 3 };

// A product of few rows. The root-mean-square norm (Zhang and Sennrich 2019) before a product is a factor of a whole row
// and commutes with it: what is multiplied is the stream times the norm's weights, and the row's factor comes after.
struct Linear {
    Matrices m;
    const __half *x;           // rows, k apart: as many as the kernel takes; what lies in those that nobody asked for is lost
    const int *picks;          // rows of x by number, or null
    const float *squares;      // of the stream, [row][slots], whose sum gives a row's factor; or null: no norm
    void *out;
    // ADD: the weights of the norm that comes next, the stream times them, and its squares by tiles.
    const float *next_weight;
    __half *next;
    float *next_squares;
    // TURNED
    const float *cosine, *sine;
    const RowPlace *places;
    __half *q_out, *prefix_k, *prefix_v, *branch_k, *branch_v;
    int heads, kv_heads, dim, prefix_room, branch_room;
    int slots;
    int width;                 // of a row of `out`
    float scale;
    float eps;
};

// Where a row stands and how it is turned there.
struct Turn {
    RowPlace place;
    float c, s;
};

__device__ static inline Turn turn_of(const Linear &l, int row, int at) {
    const RowPlace place = l.places[row];
    const size_t angle = (size_t)place.position * (l.dim / 2) + at % l.dim;
    return {place, l.cosine[angle], l.sine[angle]};
}

// One value of query, key or value (`at`: its place among all) with its partner half a head further.
__device__ static inline void put_turned(const Linear &l, const Turn &turn, int row, int at, float a, float b) {
    const RowPlace place = turn.place;
    if (place.branch < -1) return;
    const int q_width = l.heads * l.dim, kv_width = l.kv_heads * l.dim, half_dim = l.dim / 2, f = at % l.dim;
    const float c = turn.c, s = turn.s;
    if (at < q_width) {
        __half *to = l.q_out + (size_t)row * q_width + at;
        to[0] = __float2half(a * c - b * s);
        to[half_dim] = __float2half(b * c + a * s);
        return;
    }
    const bool own = place.branch >= 0, key = at < q_width + kv_width;
    const int head = (at - q_width - (key ? 0 : kv_width)) / l.dim, room = own ? l.branch_room : l.prefix_room;
    const size_t base = own ? (size_t)place.branch * l.kv_heads * room : 0, to = (base + (size_t)head * room + place.at) * l.dim + f;
    __half *of = key ? (own ? l.branch_k : l.prefix_k) : (own ? l.branch_v : l.prefix_v);
    of[to] = __float2half(key ? a * c - b * s : a);
    of[to + half_dim] = __float2half(key ? b * c + a * s : b);
}

// The warps of a block share a tile's units; their sums meet in shared memory, always in the same order, so that results
// are the same bits each time.
template <int NT, int MODE>
__device__ static inline void linear(const Linear &l) {
    DYNAMIC_SHARED(shared);
    __shared__ float factors[NT * 8];
    constexpr int SETS = MODE == GATED ? 2 : 1, SUMS = SETS * NT * 128;
    const Matrices &m = l.m;
    const int warps = blockDim.x / 32, warp = threadIdx.x / 32, lane = threadIdx.x % 32, k = m.of[0].k;
    int tiles = (m.of[0].n + 15) / 16;
    if (MODE != GATED)
        for (int i = 1; i < m.count; i++) tiles += (m.of[i].n + 15) / 16;
    int which = 0, tile = blockIdx.x;
    const auto find = [&](int at) {
        which = 0, tile = at;
        if (MODE != GATED)
            while (which + 1 < m.count && tile >= (m.of[which].n + 15) / 16) tile -= (m.of[which++].n + 15) / 16;
    };
    const int group = lane / 4, quad = lane % 4;
    const __half *of_row[NT];
#pragma unroll
    for (int t = 0; t < NT; t++) of_row[t] = l.x + (size_t)(l.picks == nullptr ? t * 8 + group : l.picks[t * 8 + group]) * k + quad * 8;
    // What the end needs is asked for at the begin: each read from memory costs as long as a tile's arithmetic.
    constexpr int ROWS = NT * 8, PARTS = 4;
    float part[PARTS] = {};
    const float *const of_squares = l.squares == nullptr || warp >= ROWS ? nullptr
        : l.squares + (size_t)(l.picks == nullptr ? warp : l.picks[warp]) * l.slots;
    if (of_squares != nullptr)
#pragma unroll
        for (int i = 0; i < PARTS; i++) part[i] = i * 32 + lane < l.slots ? of_squares[i * 32 + lane] : 0.f;
    Turn first_turn;
    if (MODE == TURNED && threadIdx.x < NT * 64)
        first_turn = turn_of(l, threadIdx.x / 64 * 8 + lane % 4 * 2 + threadIdx.x / 32 % 2, row_of(tile, lane / 4, m.of[which].turned));
    uint4 early[8];  // of few rows, what a unit is multiplied with: all at once, before the weights are waited for
    int held = -1;
    for (int at = blockIdx.x, round = 0; at < tiles; at += gridDim.x, round++) {
        find(at);
        float *const sums = shared + (NT == 1 ? round % 2 * warps * SUMS : 0);
        float sum[SETS][NT][4];
#pragma unroll
        for (int set = 0; set < SETS; set++)
#pragma unroll
            for (int t = 0; t < NT; t++)
                for (int e = 0; e < 4; e++) sum[set][t][e] = 0.f;
        // Gate and up are of types with the same units: what multiplies them is read once.
        const int width_of_unit = unit_k(m.of[which].type), units = k / width_of_unit;
        for (int unit = warp; unit < units; unit += warps) {
            const int first = unit * width_of_unit;
            const auto factor = [&](int t, int at_k) { return *reinterpret_cast<const uint4 *>(of_row[t] + first + at_k); };
            if (NT == 1 && unit != held) {
#pragma unroll
                for (int i = 0; i < 8; i++)
                    if (i == 0 || i * 32 < width_of_unit) early[i] = factor(0, i * 32);
                held = unit;
            }
#pragma unroll
            for (int set = 0; set < SETS; set++) {
                const Matrix &of = m.of[which + set];
                decode(of.type, unit_at(of, tile, unit), lane, [&](int at_k, const unsigned (&a)[8]) {
#pragma unroll
                    for (int t = 0; t < NT; t++) {
                        const uint4 b = NT == 1 ? early[at_k / 32] : factor(t, at_k);
                        mma(sum[set][t], a[0], a[1], a[2], a[3], b.x, b.y);
                        mma(sum[set][t], a[4], a[5], a[6], a[7], b.z, b.w);
                    }
                });
            }
        }
#pragma unroll
        for (int set = 0; set < SETS; set++)
#pragma unroll
            for (int t = 0; t < NT; t++)
                for (int e = 0; e < 4; e++) sums[warp * SUMS + (set * NT + t) * 128 + e * 32 + lane] = sum[set][t][e];
        if (round == 0 && l.squares != nullptr)
            for (int row = warp; row < ROWS; row += warps) {
                float total = 0.f;
                const float *from = l.squares + (size_t)(l.picks == nullptr ? row : l.picks[row]) * l.slots;
#pragma unroll
                for (int i = 0; i < PARTS; i++)
                    if (row == warp) total += part[i];
                for (int i = (row == warp ? PARTS * 32 : 0) + lane; i < l.slots; i += 32) total += from[i];
                for (int step = 16; step > 0; step /= 2) total += __shfl_xor_sync(0xffffffffu, total, step);
                if (lane == 0) factors[row] = rsqrtf(total / k + l.eps) * STREAM_SCALE;
            }
        __syncthreads();
        // Two results a thread, eight rows of the tile apart. Whole warps go round together.
        for (int i = threadIdx.x; i < NT * 64; i += blockDim.x) {
            const int e = i / 32 % 2, of_lane = i % 32, row = i / 64 * 8 + of_lane % 4 * 2 + e;
            const Matrix &of = m.of[which];
            const float factor = l.scale * (l.squares == nullptr ? 1.f : factors[row]);
            float y[SETS][2];
#pragma unroll
            for (int set = 0; set < SETS; set++)
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    float total = 0.f;
                    for (int w = 0; w < warps; w++) total += sums[w * SUMS + (set * NT + i / 64) * 128 + (e + 2 * half) * 32 + of_lane];
                    y[set][half] = total * factor;
                }
            if (MODE == TURNED) {
                // Values are in turned tiles too: it is the caller who loads all three alike.
                const int at = row_of(tile, of_lane / 4, of.turned), other = at + l.dim / 2;
                const Turn turn = round == 0 && i == (int)threadIdx.x ? first_turn : turn_of(l, row, at);
                put_turned(l, turn, row, of.first + at, y[0][0] + of.bias[at], y[0][1] + of.bias[other]);
                continue;
            }
            float squares = 0.f;
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const int inner = tile * 16 + of_lane / 4 + 8 * half;
                if (inner >= of.n) continue;
                const size_t to = (size_t)row * l.width + of.first + inner;
                if (MODE == GATED) {
                    const float g = y[0][half];
                    reinterpret_cast<__half *>(l.out)[to] = __float2half(g / (1.f + __expf(-g)) * y[SETS - 1][half] * (1.f / DOWN_SCALE));
                } else if (MODE == ADD) {
                    const float x = reinterpret_cast<float *>(l.out)[to] + y[0][half];
                    reinterpret_cast<float *>(l.out)[to] = x;
                    l.next[to] = __float2half(x * l.next_weight[inner] * (1.f / STREAM_SCALE));
                    squares += x * x;
                } else {
                    reinterpret_cast<float *>(l.out)[to] = y[0][half] + (of.bias == nullptr ? 0.f : of.bias[inner]);
                }
            }
            if (MODE == ADD) {
                for (int step = 4; step < 32; step *= 2) squares += __shfl_xor_sync(0xffffffffu, squares, step);
                if (of_lane < 4) l.next_squares[(size_t)row * l.slots + tile] = squares;
            }
        }
        // Of few rows the next round's sums lie elsewhere, and those of the one after wait for its barrier.
        if (NT > 1) __syncthreads();
    }
}

#define LINEAR(NAME, NT, MODE, THREADS)                                                                                     \
    KERNEL LAUNCH_BOUNDS(THREADS) NAME(const __grid_constant__ Linear l) { linear<NT, MODE>(l); }
LINEAR(linear_8_store, 1, STORE, 640)
LINEAR(linear_8_add, 1, ADD, 640)
LINEAR(linear_8_gated, 1, GATED, 640)
LINEAR(linear_8_turned, 1, TURNED, 640)
LINEAR(linear_32_store, 4, STORE, 512)
LINEAR(linear_32_add, 4, ADD, 512)
LINEAR(linear_32_gated, 4, GATED, 512)
LINEAR(linear_32_turned, 4, TURNED, 512)

// The stream of embedded rows made ready for the first product: as ADD leaves it. One block a row.
KERNEL prepare(const float *x, const float *weight, __half *next, float *squares, int width, int slots) {
    const float *row = x + (size_t)blockIdx.x * width;
    for (int slot = threadIdx.x; slot < slots; slot += blockDim.x) {
        float sum = 0.f;
        for (int i = slot * 16; i < min(width, slot * 16 + 16); i++) {
            sum += row[i] * row[i];
            next[(size_t)blockIdx.x * width + i] = __float2half(row[i] * weight[i] * (1.f / STREAM_SCALE));
        }
        squares[(size_t)blockIdx.x * slots + slot] = sum;
    }
}

// ---- Attention.

// Adds biases (where they are given), turns queries and keys by their rotary angles, writes the queries as f16 and the
// keys and values into the caches. One block a row of `qkv`: queries, keys, values. `cosine`, `sine`: [position][dim / 2].
// Halves are paired as Qwen2 pairs them: i with i + dim / 2.
KERNEL rope_store(const float *qkv, const float *bias, const float *cosine, const float *sine, const RowPlace *places,
                  __half *q_out, __half *prefix_k, __half *prefix_v, __half *branch_k, __half *branch_v, int heads,
                  int kv_heads, int head_dim, int prefix_room, int branch_room, const Header *header) {
    const int row = blockIdx.x, half_dim = head_dim / 2;
    if (row >= header->rows) return;
    const RowPlace place = places[row];
    const int q_width = heads * head_dim, kv_width = kv_heads * head_dim;
    const float *of = qkv + (size_t)row * (q_width + 2 * kv_width);
    const auto value = [&](int i) { return bias == nullptr ? of[i] : of[i] + bias[i]; };
    const float *c = cosine + (size_t)place.position * half_dim, *s = sine + (size_t)place.position * half_dim;
    for (int i = threadIdx.x; i < heads * half_dim; i += blockDim.x) {
        const int low = i / half_dim * head_dim + i % half_dim, high = low + half_dim, f = i % half_dim;
        const size_t at = (size_t)row * q_width;
        const float a = value(low), b = value(high);
        q_out[at + low] = __float2half(a * c[f] - b * s[f]);
        q_out[at + high] = __float2half(b * c[f] + a * s[f]);
    }
    const bool own = place.branch >= 0;
    __half *const to_k = own ? branch_k : prefix_k, *const to_v = own ? branch_v : prefix_v;
    const int room = own ? branch_room : prefix_room;
    const size_t base = own ? (size_t)place.branch * kv_heads * room : 0;
    for (int i = threadIdx.x; i < kv_heads * half_dim; i += blockDim.x) {
        const int head = i / half_dim, f = i % half_dim, low = q_width + head * head_dim + f, high = low + half_dim;
        const size_t to = (base + (size_t)head * room + place.at) * head_dim + f;
        const float a = value(low), b = value(high);
        to_k[to] = __float2half(a * c[f] - b * s[f]);
        to_k[to + half_dim] = __float2half(b * c[f] + a * s[f]);
        to_v[to] = __float2half(value(low + kv_width));
        to_v[to + half_dim] = __float2half(value(high + kv_width));
    }
}

// The same for the patches of some frames, which see one grid each: `qkv` f16, [frame][patch][queries, keys, values].
// Queries to [patch][frame][head][dim], keys and values to [frame][head][patch][dim]: a frame's head is attention's head.
// One block a patch of a frame.
KERNEL rope_patches(const __half *qkv, const float *bias, const float *cosine, const float *sine, __half *q_out, __half *k_out,
                    __half *v_out, int frames, int patches, int heads, int dim) {
    const int frame = blockIdx.x / patches, patch = blockIdx.x % patches, half_dim = dim / 2, width = heads * dim;
    const __half *of = qkv + (size_t)blockIdx.x * 3 * width;
    const auto value = [&](int i) { return __half2float(of[i]) + bias[i]; };
    const float *c = cosine + (size_t)patch * half_dim, *s = sine + (size_t)patch * half_dim;
    for (int i = threadIdx.x; i < heads * half_dim; i += blockDim.x) {
        const int head = i / half_dim, f = i % half_dim, low = head * dim + f, high = low + half_dim;
        const size_t q_to = (((size_t)patch * frames + frame) * heads + head) * dim + f;
        const size_t to = (((size_t)frame * heads + head) * patches + patch) * dim + f;
        const float qa = value(low), qb = value(high), ka = value(width + low), kb = value(width + high);
        q_out[q_to] = __float2half(qa * c[f] - qb * s[f]);
        q_out[q_to + half_dim] = __float2half(qb * c[f] + qa * s[f]);
        k_out[to] = __float2half(ka * c[f] - kb * s[f]);
        k_out[to + half_dim] = __float2half(kb * c[f] + ka * s[f]);
        v_out[to] = __float2half(value(2 * width + low));
        v_out[to + half_dim] = __float2half(value(2 * width + high));
    }
}

constexpr int WARPS = 4;          // of one attention block
constexpr int TILE_Q = 16;        // queries of one warp
constexpr int TILE_K = 32;        // keys of one tile
constexpr int PAD = 8;            // halves between rows in shared memory, against bank conflicts
constexpr float NONE = -1e30f;    // "no key seen yet": finite, so that differences stay numbers

// One tile of keys and values into shared memory, 16 bytes at a time (`dim` is a multiple of 8); beyond `count` zeros.
template <int HD>
__device__ static inline void load_tile(const __half *k, const __half *v, int first, int count, int dim,
                                        __half (*sk)[HD + PAD], __half (*sv)[HD + PAD]) {
#pragma unroll
    for (int i = threadIdx.x; i < TILE_K * HD / 8; i += WARPS * 32) {
        const int key = i / (HD / 8), d = i % (HD / 8) * 8;
        const bool there = first + key < count && d < dim;
        const size_t at = (size_t)(first + key) * dim + d;
        const uint4 none = {0, 0, 0, 0};
        *reinterpret_cast<uint4 *>(&sk[key][d]) = there ? *reinterpret_cast<const uint4 *>(k + at) : none;
        *reinterpret_cast<uint4 *>(&sv[key][d]) = there ? *reinterpret_cast<const uint4 *>(v + at) : none;
    }
}

// State of the running softmax (Milakov and Gimelshein 2018) of the 16 queries of a warp: a thread has two rows.
template <int HD>
struct Running {
    float out[HD / 8][4];
    float most[2];
    float sum[2];
};

// Takes one tile in. `low` and `high`: how many of its keys the thread's two rows see, or less than one.
template <int HD>
__device__ static inline void attend_tile(Running<HD> &run, const unsigned (&q)[HD / 16][4], float scale, int low, int high,
                                          const __half (*sk)[HD + PAD], const __half (*sv)[HD + PAD]) {
    const int lane = threadIdx.x % 32, group = lane / 4, quad = lane % 4;
    float score[TILE_K / 8][4];
#pragma unroll
    for (int n = 0; n < TILE_K / 8; n++) {
        for (int e = 0; e < 4; e++) score[n][e] = 0.f;
#pragma unroll
        for (int d = 0; d < HD / 16; d++) {
            const __half *at = &sk[n * 8 + group][d * 16 + quad * 2];
            mma(score[n], q[d][0], q[d][1], q[d][2], q[d][3], *reinterpret_cast<const unsigned *>(at), *reinterpret_cast<const unsigned *>(at + 8));
        }
    }
    const int sees[2] = {low, high};
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float most = run.most[r];
#pragma unroll
        for (int n = 0; n < TILE_K / 8; n++)
            for (int e = 0; e < 2; e++) {
                const bool seen = n * 8 + quad * 2 + e < sees[r];
                float &s = score[n][r * 2 + e];
                s = seen ? s * scale : NONE;
                most = fmaxf(most, s);
            }
        most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1));
        most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
        const float shrink = __expf(run.most[r] - most);
        run.most[r] = most;
        float sum = 0.f;
#pragma unroll
        for (int n = 0; n < TILE_K / 8; n++)
            for (int e = 0; e < 2; e++) {
                float &s = score[n][r * 2 + e];
                // A row that sees nothing yet has most == NONE: its differences are 0, so ask again.
                s = s <= NONE ? 0.f : __expf(s - most);
                sum += s;
            }
        run.sum[r] = run.sum[r] * shrink + sum;
#pragma unroll
        for (int n = 0; n < HD / 8; n++)
            for (int e = 0; e < 2; e++) run.out[n][r * 2 + e] *= shrink;
    }
#pragma unroll
    for (int k = 0; k < TILE_K / 16; k++) {
        // Scores stand as an accumulator; two neighbours of eight columns are the left factor of the next product.
        const unsigned p[4] = {pack(score[2 * k][0], score[2 * k][1]), pack(score[2 * k][2], score[2 * k][3]),
                               pack(score[2 * k + 1][0], score[2 * k + 1][1]), pack(score[2 * k + 1][2], score[2 * k + 1][3])};
#pragma unroll
        for (int n = 0; n < HD / 8; n += 2) {
            unsigned v[4];
            load_transposed(v, &sv[k * 16 + lane % 16][(n + lane / 16) * 8]);
            mma(run.out[n], p[0], p[1], p[2], p[3], v[0], v[1]);
            mma(run.out[n + 1], p[0], p[1], p[2], p[3], v[2], v[3]);
        }
    }
}

// Queries of one kv head, 16 a warp: query i is head i % group of row i / group.
template <int HD>
__device__ static inline void load_queries(unsigned (&frag)[HD / 16][4], const __half *q, int first, int count, int group_size,
                                           int heads, int kv_head, int dim) {
    const int lane = threadIdx.x % 32, group = lane / 4, quad = lane % 4;
#pragma unroll
    for (int d = 0; d < HD / 16; d++)
        for (int e = 0; e < 4; e++) {
            const int query = first + group + (e % 2) * 8, at = d * 16 + quad * 2 + (e / 2) * 8;
            const size_t head = (size_t)(query / group_size) * heads + kv_head * group_size + query % group_size;
            const __half *from = q + head * dim + at;
            // `dim` is even, so a pair is inside or outside as a whole.
            frag[d][e] = query < count && at < dim ? *reinterpret_cast<const unsigned *>(from) : 0u;
        }
}

// Attention of `rows` rows. Grid: (tiles of 64 queries, kv heads, splits). Each split attends a part of the prefix; the
// last one also the branches. One split: the result as f16 to `out`, [frame][row][frame's heads][dim] (language: one
// frame). Several: partial results `part_out` [split][row][head][dim], `part_stat` [split][row][head][2].
struct Attention {
    const __half *q, *prefix_k, *prefix_v, *branch_k, *branch_v;
    const RowPlace *places;
    const Header *header;
    __half *out;
    float *part_out, *part_stat;
    int heads, kv_heads, frame_heads, dim, prefix_room, branch_room;
    int prefix_splits;  // fewer than the grid has: the rest have a branch each
    float scale;
};

template <int HD>
__device__ static inline void attend(const Attention &a) {
    __shared__ __align__(16) __half sk[2][TILE_K][HD + PAD];
    __shared__ __align__(16) __half sv[2][TILE_K][HD + PAD];
    const int rows = a.header->rows, prefix_len = a.header->prefix, branches = a.header->branches;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, group = lane / 4, quad = lane % 4;
    const int group_size = a.heads / a.kv_heads, queries = rows * group_size, kv_head = blockIdx.y, dim = a.dim;
    const int first = (blockIdx.x * WARPS + warp) * TILE_Q;
    if (blockIdx.x * WARPS * TILE_Q >= queries) return;
    unsigned frag[HD / 16][4];
    load_queries<HD>(frag, a.q, first, queries, group_size, a.heads, kv_head, dim);
    Running<HD> run;
    for (int n = 0; n < HD / 8; n++)
        for (int e = 0; e < 4; e++) run.out[n][e] = 0.f;
    RowPlace place[2];
    for (int r = 0; r < 2; r++) {
        run.most[r] = NONE;
        run.sum[r] = 0.f;
        const int query = first + group + r * 8;
        place[r] = query < queries ? a.places[query / group_size] : RowPlace{-1, 0, 0, 0};
    }
    // Tiles `from` to `to` of some keys, of which the thread's rows see `low` and `high`; two are on their way at once.
    const auto walk = [&](const __half *k, const __half *v, int from, int to, int count, int low, int high) {
        for (int t = from; t < to; t += 2) {
            __syncthreads();
            load_tile<HD>(k, v, t * TILE_K, count, dim, sk[0], sv[0]);
            if (t + 1 < to) load_tile<HD>(k, v, (t + 1) * TILE_K, count, dim, sk[1], sv[1]);
            __syncthreads();
            attend_tile<HD>(run, frag, a.scale, low - t * TILE_K, high - t * TILE_K, sk[0], sv[0]);
            if (t + 1 < to) attend_tile<HD>(run, frag, a.scale, low - (t + 1) * TILE_K, high - (t + 1) * TILE_K, sk[1], sv[1]);
        }
    };
    // Whole tiles a split, so that no tile is cut between two.
    const int tiles = (prefix_len + TILE_K - 1) / TILE_K, share = (tiles + a.prefix_splits - 1) / a.prefix_splits;
    const __half *pk = a.prefix_k + (size_t)kv_head * a.prefix_room * dim, *pv = a.prefix_v + (size_t)kv_head * a.prefix_room * dim;
    // Rows of the prefix come in order, rows of branches see all of it: the block's last row sees most.
    const int last_row = (min(queries, (int)(blockIdx.x + 1) * WARPS * TILE_Q) - 1) / group_size;
    const int visible = (a.places[last_row].sees + TILE_K - 1) / TILE_K, split = blockIdx.z;
    if (split < a.prefix_splits)
        walk(pk, pv, split * share, min(min(tiles, visible), (split + 1) * share), prefix_len, place[0].sees, place[1].sees);
    // A branch by a block of its own, or each by another split, so that no block has all of them.
    const int own = gridDim.z - a.prefix_splits;
    const int begin = own > 0 ? split - a.prefix_splits : (int)gridDim.z - 1 - split;
    for (int b = begin < 0 ? branches : begin; b < branches; b += own > 0 ? own : (int)gridDim.z) {
        const int len = a.header->branch_len[b];
        const size_t at = ((size_t)b * a.kv_heads + kv_head) * a.branch_room * dim;
        walk(a.branch_k + at, a.branch_v + at, 0, (len + TILE_K - 1) / TILE_K, len, place[0].branch == b ? place[0].at + 1 : 0,
             place[1].branch == b ? place[1].at + 1 : 0);
    }
    for (int r = 0; r < 2; r++) {
        // A thread saw a quarter of each row's keys.
        run.sum[r] += __shfl_xor_sync(0xffffffffu, run.sum[r], 1);
        run.sum[r] += __shfl_xor_sync(0xffffffffu, run.sum[r], 2);
        const int query = first + group + r * 8;
        if (query >= queries) continue;
        const int row = query / group_size, head = kv_head * group_size + query % group_size;
        if (gridDim.z == 1) {
            const size_t to = (((size_t)(head / a.frame_heads) * rows + row) * a.frame_heads + head % a.frame_heads) * dim;
            const float scale = run.sum[r] > 0.f ? 1.f / run.sum[r] : 0.f;
            for (int n = 0; n < HD / 8; n++) {
                const int d = n * 8 + quad * 2;
                if (d < dim) *reinterpret_cast<unsigned *>(a.out + to + d) = pack(run.out[n][r * 2] * scale, run.out[n][r * 2 + 1] * scale);
            }
            continue;
        }
        const size_t to = ((size_t)blockIdx.z * rows + row) * a.heads + head;
        if (quad == 0) {
            a.part_stat[to * 2] = run.most[r];
            a.part_stat[to * 2 + 1] = run.sum[r];
        }
        for (int n = 0; n < HD / 8; n++)
            for (int e = 0; e < 2; e++) {
                const int d = n * 8 + quad * 2 + e;
                if (d < dim) a.part_out[to * dim + d] = run.out[n][r * 2 + e];
            }
    }
}

KERNEL attend_64(const __grid_constant__ Attention a) { attend<64>(a); }
KERNEL attend_80(const __grid_constant__ Attention a) { attend<80>(a); }
KERNEL attend_128(const __grid_constant__ Attention a) { attend<128>(a); }

// Joins the splits, at most 64. One block of four warps a head of a row: each warp joins every fourth split, and the four
// meet. f16 out: [row][head][dim], dim at most 128 and a multiple of 4.
KERNEL join_splits(const float *part_out, const float *part_stat, __half *out, int heads, int dim, int splits, const Header *header) {
    __shared__ float share[64], meet[4][128];
    const size_t head = blockIdx.x, row_heads = (size_t)header->rows * heads, step = row_heads * dim;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    if (head >= row_heads) return;
    if (warp == 0) {
        float most[2], sum[2];
        for (int i = 0; i < 2; i++) {
            const size_t at = ((size_t)(i * 32 + lane) * row_heads + head) * 2;
            const bool there = i * 32 + lane < splits;
            most[i] = there ? part_stat[at] : NONE, sum[i] = there ? part_stat[at + 1] : 0.f;
        }
        float top = fmaxf(most[0], most[1]);
        for (int w = 16; w > 0; w /= 2) top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, w));
        // A split that saw no key weighs nothing.
        for (int i = 0; i < 2; i++) most[i] = most[i] <= NONE ? 0.f : __expf(most[i] - top);
        float total = sum[0] * most[0] + sum[1] * most[1];
        for (int w = 16; w > 0; w /= 2) total += __shfl_xor_sync(0xffffffffu, total, w);
        for (int i = 0; i < 2; i++) share[i * 32 + lane] = total > 0.f ? most[i] / total : 0.f;
    }
    __syncthreads();
    float y[4] = {};
    if (lane * 4 < dim)
#pragma unroll 8
        for (int s = warp; s < splits; s += 4) {
            const float weight = share[s];
            // Not skipped where it is zero: loads that depend on nothing go out together. What lies there is finite.
            const float4 v = *reinterpret_cast<const float4 *>(part_out + s * step + head * dim + lane * 4);
            y[0] += v.x * weight, y[1] += v.y * weight, y[2] += v.z * weight, y[3] += v.w * weight;
        }
    for (int i = 0; i < 4; i++) meet[warp][lane * 4 + i] = y[i];
    __syncthreads();
    for (int d = threadIdx.x; d < dim; d += 128)
        out[head * dim + d] = __float2half(meet[0][d] + meet[1][d] + meet[2][d] + meet[3][d]);
}

// ---- Small steps.

// Sum over a block of at most 1,024 threads; every thread gets it.
__device__ static inline float block_sum(float x) {
    __shared__ float parts[32];
    for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
    __syncthreads();
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
    __syncthreads();
    float sum = 0.f;
    for (int w = 0; w < (int)(blockDim.x / 32); w++) sum += parts[w];
    return sum;
}

// Root-mean-square norm of the stream times `weight`, f16. One block a row, or a picked row.
KERNEL rms_norm(const float *x, const float *weight, __half *out, int width, float eps, const int *picks) {
    const float *row = x + (size_t)(picks == nullptr ? blockIdx.x : picks[blockIdx.x]) * width;
    float squares = 0.f;
    for (int i = threadIdx.x; i < width; i += blockDim.x) squares += row[i] * row[i];
    const float scale = rsqrtf(block_sum(squares) / width + eps);
    for (int i = threadIdx.x; i < width; i += blockDim.x) out[(size_t)blockIdx.x * width + i] = __float2half(row[i] * scale * weight[i]);
}

// The stream takes `add` in (a bias that a product left out, if given); its layer norm, f16. One block a row.
KERNEL layer_norm(float *x, const float *add, const float *weight, const float *bias, __half *out, int width, float eps) {
    float *row = x + (size_t)blockIdx.x * width;
    float sum = 0.f, squares = 0.f;
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        if (add != nullptr) row[i] += add[i];
        sum += row[i];
    }
    const float mean = block_sum(sum) / width;
    for (int i = threadIdx.x; i < width; i += blockDim.x) squares += (row[i] - mean) * (row[i] - mean);
    const float scale = rsqrtf(block_sum(squares) / width + eps);
    for (int i = threadIdx.x; i < width; i += blockDim.x)
        out[(size_t)blockIdx.x * width + i] = __float2half((row[i] - mean) * scale * weight[i] + bias[i]);
}

// silu(gate) * up, smaller by DOWN_SCALE.
KERNEL silu_mul(const float *gate, const float *up, __half *out, int count) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) {
        const float g = gate[i];
        out[i] = __float2half(g / (1.f + __expf(-g)) * up[i] * (1.f / DOWN_SCALE));
    }
}

// GELU of x + bias in place: by the error function, or by its tangent form as SigLIP has it (Hendrycks and Gimpel 2016).
KERNEL gelu(__half *x, const float *bias, int width, int count, int by_erf) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) {
        const float v = __half2float(x[i]) + bias[i % width];
        // tanh by exponentials, which the fast mode has and which neither overflow nor cancel here.
        const float u = 0.7978845608f * (v + 0.044715f * v * v * v), t = 1.f - 2.f / (1.f + __expf(fminf(2.f * u, 80.f)));
        x[i] = __float2half(by_erf ? 0.5f * v * (1.f + erff(v * 0.70710678f)) : 0.5f * v * (1.f + t));
    }
}

KERNEL to_half(const float *from, __half *to, int count) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) to[i] = __float2half(from[i]);
}

// Every row becomes `values`: a product then adds to its bias.
KERNEL fill_rows(float *to, const float *values, int width, int count) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) to[i] = values[i % width];
}

// Mean of the `merged` neighbours of each kept vision token. One block a token.
KERNEL gather_mean(const __half *from, const int *kept, __half *to, int width, int merged) {
    const __half *first = from + (size_t)kept[blockIdx.x] * merged * width;
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        float sum = 0.f;
        for (int m = 0; m < merged; m++) sum += __half2float(first[(size_t)m * width + i]);
        to[(size_t)blockIdx.x * width + i] = __float2half(sum / merged);
    }
}

// What is read from logits: for each row and slice the largest, its token (the first of several) and the sum of
// exponentials over it. Grid: (slices, rows); 256 threads. `out`: [row][slice][3], the token's bits in the second.
KERNEL reduce_logits(const float *logits, float *out, int vocab, const int *row_count) {
    __shared__ float most_of[256], sum_of[256];
    __shared__ int token_of[256];
    if ((int)blockIdx.y >= *row_count) return;
    const float *row = logits + (size_t)blockIdx.y * vocab;
    const int share = (vocab + gridDim.x - 1) / gridDim.x, begin = blockIdx.x * share, end = min(vocab, begin + share);
    float most = -INFINITY, sum = 0.f;
    int token = begin;
    for (int i = begin + threadIdx.x; i < end; i += 256)
        if (row[i] > most) most = row[i], token = i;
    most_of[threadIdx.x] = most, token_of[threadIdx.x] = token;
    __syncthreads();
    for (int step = 128; step > 0; step /= 2) {
        if ((int)threadIdx.x < step) {
            const float other = most_of[threadIdx.x + step];
            const int its = token_of[threadIdx.x + step];
            if (other > most_of[threadIdx.x] || (other == most_of[threadIdx.x] && its < token_of[threadIdx.x]))
                most_of[threadIdx.x] = other, token_of[threadIdx.x] = its;
        }
        __syncthreads();
    }
    most = most_of[0];
    for (int i = begin + threadIdx.x; i < end; i += 256) sum += expf(row[i] - most);
    sum_of[threadIdx.x] = sum;
    __syncthreads();
    for (int step = 128; step > 0; step /= 2) {
        if ((int)threadIdx.x < step) sum_of[threadIdx.x] += sum_of[threadIdx.x + step];
        __syncthreads();
    }
    if (threadIdx.x == 0) {
        float *to = out + ((size_t)blockIdx.y * gridDim.x + blockIdx.x) * 3;
        int first = token_of[0];
        to[0] = most, to[2] = sum_of[0];
        to[1] = *reinterpret_cast<float *>(&first);
    }
}

// Logits of asked tokens: pairs of row and token.
KERNEL pick_logits(const float *logits, const int *asked, float *out, int vocab, int count) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x)
        out[i] = logits[(size_t)asked[2 * i] * vocab + asked[2 * i + 1]];
}
