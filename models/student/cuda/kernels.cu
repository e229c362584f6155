// Kernels of the student on NVIDIA GPUs (sm_80 and later: Orin is 87, Hopper 90).
//
// What candle lacks: attention of many short branches over one shared prefix without materialised scores or repeated
// heads, and the small steps around the quantised products in one launch each. Compiled to PTX by build.rs; compiled as
// C++ with emulate.h by the tests, which run every kernel on the CPU against plain loops.
//
// Terms: row = one token of one branch or of the prefix; query = one head of one row; group = query heads that share one
// head of keys and values (grouped-query attention); split = a part of the prefix that one block attends.
// Layouts: keys and values f16, [kv head][capacity][HD] for the prefix, [branch][kv head][capacity][HD] for branches.

#ifdef EMULATE
#include "emulate.h"
#else
#include <cuda_fp16.h>
#define KERNEL extern "C" __global__ void
#endif

// Where a row stands. `branch` < 0: the prefix itself. `at`: its place in its cache. `position`: for the rotary angles.
// `sees`: how many tokens of the prefix it attends (a row of the prefix: those up to itself).
struct RowPlace {
    int branch;
    int at;
    int position;
    int sees;
};

__device__ static inline unsigned pack(float a, float b) {
    __half2 h = __floats2half2_rn(a, b);
    return *reinterpret_cast<unsigned *>(&h);
}

// D += A B for 16 x 8 x 16, f16 in, f32 out. Fragment layout: PTX ISA, "Matrix fragments for mma.m16n8k16".
__device__ static inline void mma(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
#ifdef EMULATE
    emulated_mma(d, a, b0, b1);
#else
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}

// Adds biases, turns queries and keys by their rotary angles, writes the queries as f16 and the keys and values into the
// caches. One block a row. `cosine`, `sine`: [position][HD / 2]. Halves are paired as Qwen2 pairs them: i with i + HD/2.
KERNEL rope_store(const float *q, const float *k, const float *v, const float *q_bias, const float *k_bias,
                  const float *v_bias, const float *cosine, const float *sine, const RowPlace *places, __half *q_out,
                  __half *prefix_k, __half *prefix_v, __half *branch_k, __half *branch_v, int heads, int kv_heads,
                  int head_dim, int prefix_room, int branch_room) {
    const int row = blockIdx.x, half_dim = head_dim / 2;
    const RowPlace place = places[row];
    const float *c = cosine + (size_t)place.position * half_dim, *s = sine + (size_t)place.position * half_dim;
    for (int i = threadIdx.x; i < heads * half_dim; i += blockDim.x) {
        const int low = i / half_dim * head_dim + i % half_dim, high = low + half_dim, f = i % half_dim;
        const size_t at = (size_t)row * heads * head_dim;
        const float a = q[at + low] + q_bias[low], b = q[at + high] + q_bias[high];
        q_out[at + low] = __float2half(a * c[f] - b * s[f]);
        q_out[at + high] = __float2half(b * c[f] + a * s[f]);
    }
    const bool own = place.branch >= 0;
    __half *const to_k = own ? branch_k : prefix_k, *const to_v = own ? branch_v : prefix_v;
    const int room = own ? branch_room : prefix_room;
    const size_t base = own ? (size_t)place.branch * kv_heads * room : 0;
    for (int i = threadIdx.x; i < kv_heads * half_dim; i += blockDim.x) {
        const int head = i / half_dim, f = i % half_dim, low = head * head_dim + f, high = low + half_dim;
        const size_t from = (size_t)row * kv_heads * head_dim;
        const size_t to = (base + (size_t)head * room + place.at) * head_dim + f;
        const float a = k[from + low] + k_bias[low], b = k[from + high] + k_bias[high];
        to_k[to] = __float2half(a * c[f] - b * s[f]);
        to_k[to + half_dim] = __float2half(b * c[f] + a * s[f]);
        to_v[to] = __float2half(v[from + low] + v_bias[low]);
        to_v[to + half_dim] = __float2half(v[from + high] + v_bias[high]);
    }
}

constexpr int WARPS = 4;          // of one attention block
constexpr int TILE_Q = 16;        // queries of one warp
constexpr int TILE_K = 32;        // keys of one tile
constexpr int PAD = 8;            // halves between rows in shared memory, against bank conflicts
constexpr float NONE = -1e30f;    // "no key seen yet": finite, so that differences stay numbers

// One tile of keys (rows) and values (transposed) into shared memory; beyond `count` zeros.
template <int HD>
__device__ static inline void load_tile(const __half *k, const __half *v, int first, int count, int dim,
                                        __half (*sk)[HD + PAD], __half (*sv)[TILE_K + PAD]) {
    for (int i = threadIdx.x; i < TILE_K * HD; i += WARPS * 32) {
        const int key = i / HD, d = i % HD;
        const bool there = first + key < count && d < dim;
        const size_t at = (size_t)(first + key) * dim + d;
        sk[key][d] = there ? k[at] : __float2half(0.f);
        sv[d][key] = there ? v[at] : __float2half(0.f);
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
                                          const __half (*sk)[HD + PAD], const __half (*sv)[TILE_K + PAD]) {
    const int lane = threadIdx.x % 32, group = lane / 4, quad = lane % 4;
    float score[TILE_K / 8][4];
#pragma unroll
    for (int n = 0; n < TILE_K / 8; n++) {
        for (int e = 0; e < 4; e++) score[n][e] = 0.f;
#pragma unroll
        for (int d = 0; d < HD / 16; d++) {
            const __half *at = &sk[n * 8 + group][d * 16 + quad * 2];
            mma(score[n], q[d], *reinterpret_cast<const unsigned *>(at), *reinterpret_cast<const unsigned *>(at + 8));
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
        for (int n = 0; n < HD / 8; n++) {
            const __half *at = &sv[n * 8 + group][k * 16 + quad * 2];
            mma(run.out[n], p, *reinterpret_cast<const unsigned *>(at), *reinterpret_cast<const unsigned *>(at + 8));
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
// last one also the branches. Partial results: `part_out` [split][row][head][HD], `part_stat` [split][row][head][2].
template <int HD>
__device__ static inline void attend(const __half *q, const __half *prefix_k, const __half *prefix_v, const __half *branch_k,
                                     const __half *branch_v, const RowPlace *places, const int *branch_len, float *part_out,
                                     float *part_stat, int rows, int heads, int kv_heads, int dim, int prefix_len,
                                     int prefix_room, int branches, int branch_room, float scale) {
    __shared__ __half sk[TILE_K][HD + PAD];
    __shared__ __half sv[HD][TILE_K + PAD];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, group = lane / 4, quad = lane % 4;
    const int group_size = heads / kv_heads, queries = rows * group_size, kv_head = blockIdx.y;
    const int first = (blockIdx.x * WARPS + warp) * TILE_Q;
    unsigned frag[HD / 16][4];
    load_queries<HD>(frag, q, first, queries, group_size, heads, kv_head, dim);
    Running<HD> run;
    for (int n = 0; n < HD / 8; n++)
        for (int e = 0; e < 4; e++) run.out[n][e] = 0.f;
    RowPlace place[2];
    for (int r = 0; r < 2; r++) {
        run.most[r] = NONE;
        run.sum[r] = 0.f;
        const int query = first + group + r * 8;
        place[r] = query < queries ? places[query / group_size] : RowPlace{-1, 0, 0, 0};
    }
    // Whole tiles a split, so that no tile is cut between two.
    const int tiles = (prefix_len + TILE_K - 1) / TILE_K, share = (tiles + gridDim.z - 1) / gridDim.z;
    const __half *pk = prefix_k + (size_t)kv_head * prefix_room * dim, *pv = prefix_v + (size_t)kv_head * prefix_room * dim;
    // Rows of the prefix come in order, rows of branches see all of it: the block's last row sees most.
    const int last_row = (min(queries, (int)(blockIdx.x + 1) * WARPS * TILE_Q) - 1) / group_size;
    const int visible = (places[last_row].sees + TILE_K - 1) / TILE_K;
    const int last = min(min(tiles, visible), (int)(blockIdx.z + 1) * share);
    for (int t = blockIdx.z * share; t < last; t++) {
        __syncthreads();
        load_tile<HD>(pk, pv, t * TILE_K, prefix_len, dim, sk, sv);
        __syncthreads();
        attend_tile<HD>(run, frag, scale, place[0].sees - t * TILE_K, place[1].sees - t * TILE_K, sk, sv);
    }
    if (blockIdx.z + 1 == gridDim.z)
        for (int b = 0; b < branches; b++) {
            const size_t at = ((size_t)b * kv_heads + kv_head) * branch_room * dim;
            for (int t = 0; t * TILE_K < branch_len[b]; t++) {
                __syncthreads();
                load_tile<HD>(branch_k + at, branch_v + at, t * TILE_K, branch_len[b], dim, sk, sv);
                __syncthreads();
                const int low = place[0].branch == b ? place[0].at + 1 - t * TILE_K : 0;
                const int high = place[1].branch == b ? place[1].at + 1 - t * TILE_K : 0;
                attend_tile<HD>(run, frag, scale, low, high, sk, sv);
            }
        }
    for (int r = 0; r < 2; r++) {
        // A thread saw a quarter of each row's keys.
        run.sum[r] += __shfl_xor_sync(0xffffffffu, run.sum[r], 1);
        run.sum[r] += __shfl_xor_sync(0xffffffffu, run.sum[r], 2);
        const int query = first + group + r * 8;
        if (query >= queries) continue;
        const size_t head = (size_t)(query / group_size) * heads + kv_head * group_size + query % group_size;
        const size_t to = (size_t)blockIdx.z * rows * heads + head;
        if (quad == 0) {
            part_stat[to * 2] = run.most[r];
            part_stat[to * 2 + 1] = run.sum[r];
        }
        for (int n = 0; n < HD / 8; n++)
            for (int e = 0; e < 2; e++) {
                const int d = n * 8 + quad * 2 + e;
                if (d < dim) part_out[to * dim + d] = run.out[n][r * 2 + e];
            }
    }
}

#define ATTEND(HD)                                                                                                          \
    KERNEL attend_##HD(const __half *q, const __half *prefix_k, const __half *prefix_v, const __half *branch_k,             \
                       const __half *branch_v, const RowPlace *places, const int *branch_len, float *part_out,             \
                       float *part_stat, int rows, int heads, int kv_heads, int dim, int prefix_len, int prefix_room,       \
                       int branches, int branch_room, float scale) {                                                       \
        attend<HD>(q, prefix_k, prefix_v, branch_k, branch_v, places, branch_len, part_out, part_stat, rows, heads,         \
                   kv_heads, dim, prefix_len, prefix_room, branches, branch_room, scale);                                   \
    }
ATTEND(64)
ATTEND(80)
ATTEND(128)

// Joins the splits. One block a head of a row; f32 out: [row][head][dim].
KERNEL join_splits(const float *part_out, const float *part_stat, float *out, int row_heads, int dim, int splits) {
    const size_t head = blockIdx.x;
    float most = NONE, sum = 0.f;
    for (int s = 0; s < splits; s++) most = fmaxf(most, part_stat[(s * (size_t)row_heads + head) * 2]);
    for (int s = 0; s < splits; s++) {
        const float *stat = part_stat + (s * (size_t)row_heads + head) * 2;
        sum += stat[1] * __expf(stat[0] - most);
    }
    for (int d = threadIdx.x; d < dim; d += blockDim.x) {
        float y = 0.f;
        for (int s = 0; s < splits; s++) {
            const size_t at = s * (size_t)row_heads + head;
            y += part_out[at * dim + d] * __expf(part_stat[at * 2] - most);
        }
        out[head * dim + d] = sum > 0.f ? y / sum : 0.f;
    }
}

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

// The residual stream takes `add` in (if given), and its RMS norm times `weight` is written. One block a row.
KERNEL add_rms_norm(float *x, const float *add, const float *weight, float *out, int hidden, float eps) {
    float *row = x + (size_t)blockIdx.x * hidden;
    const float *more = add == nullptr ? nullptr : add + (size_t)blockIdx.x * hidden;
    float squares = 0.f;
    for (int i = threadIdx.x; i < hidden; i += blockDim.x) {
        const float y = more == nullptr ? row[i] : row[i] + more[i];
        row[i] = y;
        squares += y * y;
    }
    const float scale = rsqrtf(block_sum(squares) / hidden + eps);
    for (int i = threadIdx.x; i < hidden; i += blockDim.x) out[(size_t)blockIdx.x * hidden + i] = row[i] * scale * weight[i];
}

// silu(gate) * up.
KERNEL silu_mul(const float *gate, const float *up, float *out, int count) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) {
        const float g = gate[i];
        out[i] = g / (1.f + __expf(-g)) * up[i];
    }
}
