// Runs every kernel of kernels.cu on the CPU against plain loops, on shapes with odd sizes. Exit code 1 and the worst
// difference when one disagrees.
#define EMULATE
#include "kernels.cu"

#include <algorithm>

static unsigned long long state = 1;
static float random_value() {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return (float)((state >> 40) / (double)(1 << 24) * 2 - 1);
}
static std::vector<float> floats(size_t n) {
    std::vector<float> v(n);
    for (auto &x : v) x = random_value();
    return v;
}
static std::vector<__half> halves(size_t n) {
    std::vector<__half> v(n);
    for (auto &x : v) x = (__half)random_value();
    return v;
}

static int failed = 0;
static void agree(const char *what, const std::vector<float> &a, const std::vector<float> &b, float tolerance) {
    float worst = 0;
    for (size_t i = 0; i < a.size(); i++) worst = std::max(worst, std::isfinite(a[i]) ? std::fabs(a[i] - b[i]) : 1e9f);
    const bool good = worst <= tolerance && a.size() == b.size();
    std::printf("%s %s: worst difference %.2e, allowed %.0e\n", good ? "ok  " : "FAIL", what, worst, tolerance);
    failed += !good;
}

struct Case {
    const char *name;
    int head_dim, padded, heads, kv_heads, prefix_len, prefix_room, branch_room, splits;
    std::vector<int> branch_len;                  // with the rows of this step
    std::vector<std::pair<int, int>> runs;        // branch (-1: the prefix) and how many of its last tokens are rows
    bool whole_prefix;                            // rows of the prefix see all of it (a frame's own attention)
};

static void attention(const Case &c) {
    std::vector<RowPlace> places;
    for (auto [branch, count] : c.runs)
        for (int i = 0; i < count; i++) {
            const int len = branch < 0 ? c.prefix_len : c.branch_len[branch], at = len - count + i;
            places.push_back({branch, at, branch < 0 ? at : c.prefix_len + at,
                              branch < 0 && !c.whole_prefix ? at + 1 : c.prefix_len});
        }
    const int rows = (int)places.size(), branches = (int)c.branch_len.size(), hd = c.head_dim;
    const auto q = halves((size_t)rows * c.heads * hd);
    const auto pk = halves((size_t)c.kv_heads * c.prefix_room * hd), pv = halves(pk.size());
    const auto bk = halves((size_t)std::max(1, branches) * c.kv_heads * c.branch_room * hd), bv = halves(bk.size());
    std::vector<float> part((size_t)c.splits * rows * c.heads * hd), stat((size_t)c.splits * rows * c.heads * 2);
    std::vector<float> out((size_t)rows * c.heads * hd), want(out.size());
    const float scale = 1.f / std::sqrt((float)hd);
    const int group = c.heads / c.kv_heads, queries = rows * group, tiles = (queries + WARPS * TILE_Q - 1) / (WARPS * TILE_Q);
    emulator::launch({(unsigned)tiles, (unsigned)c.kv_heads, (unsigned)c.splits}, WARPS * 32, [&] {
        const auto run = c.padded == 64 ? attend_64 : c.padded == 80 ? attend_80 : attend_128;
        run(q.data(), pk.data(), pv.data(), bk.data(), bv.data(), places.data(), c.branch_len.data(), part.data(), stat.data(),
            rows, c.heads, c.kv_heads, hd, c.prefix_len, c.prefix_room, branches, c.branch_room, scale);
    });
    emulator::launch({(unsigned)(rows * c.heads), 1, 1}, 32,
                     [&] { join_splits(part.data(), stat.data(), out.data(), rows * c.heads, hd, c.splits); });
    for (int r = 0; r < rows; r++)
        for (int h = 0; h < c.heads; h++) {
            const RowPlace p = places[r];
            const int kv = h / group;
            std::vector<std::pair<const __half *, const __half *>> seen;
            for (int i = 0; i < p.sees; i++) {
                const size_t at = ((size_t)kv * c.prefix_room + i) * hd;
                seen.push_back({&pk[at], &pv[at]});
            }
            for (int i = 0; p.branch >= 0 && i <= p.at; i++) {
                const size_t at = (((size_t)p.branch * c.kv_heads + kv) * c.branch_room + i) * hd;
                seen.push_back({&bk[at], &bv[at]});
            }
            std::vector<double> weight;
            double most = -1e300, sum = 0;
            for (auto [k, v] : seen) {
                double s = 0;
                for (int d = 0; d < hd; d++) s += (double)q[((size_t)r * c.heads + h) * hd + d] * (double)k[d];
                weight.push_back(s * scale);
                most = std::max(most, weight.back());
            }
            for (auto &w : weight) sum += w = std::exp(w - most);
            for (int d = 0; d < hd; d++) {
                double y = 0;
                for (size_t i = 0; i < seen.size(); i++) y += weight[i] * (double)seen[i].second[d];
                want[((size_t)r * c.heads + h) * hd + d] = (float)(y / sum);
            }
        }
    agree(c.name, out, want, 2e-3f);
}

static void rope() {
    const int heads = 6, kv_heads = 2, hd = 64, prefix_room = 40, branch_room = 8, branches = 3;
    const std::vector<RowPlace> places = {{-1, 17, 17, 18}, {2, 5, 25, 20}, {0, 0, 20, 20}};
    const int rows = (int)places.size(), half = hd / 2;
    const auto q = floats(rows * heads * hd), k = floats(rows * kv_heads * hd), v = floats(k.size());
    const auto qb = floats(heads * hd), kb = floats(kv_heads * hd), vb = floats(kv_heads * hd);
    std::vector<float> cosine(64 * half), sine(cosine.size());
    for (int p = 0; p < 64; p++)
        for (int f = 0; f < half; f++) {
            const double angle = p * std::pow(10000.0, -2.0 * f / hd);
            cosine[p * half + f] = (float)std::cos(angle), sine[p * half + f] = (float)std::sin(angle);
        }
    std::vector<__half> out(q.size()), pk(kv_heads * prefix_room * hd), pv(pk.size()), bk(branches * kv_heads * branch_room * hd),
        bv(bk.size());
    emulator::launch({(unsigned)rows, 1, 1}, 64, [&] {
        rope_store(q.data(), k.data(), v.data(), qb.data(), kb.data(), vb.data(), cosine.data(), sine.data(), places.data(),
                   out.data(), pk.data(), pv.data(), bk.data(), bv.data(), heads, kv_heads, hd, prefix_room, branch_room);
    });
    std::vector<float> got, want;
    const auto turned = [&](const float *x, const float *bias, int position, int d) {
        const int f = d % half;
        const double a = x[f] + bias[f], b = x[f + half] + bias[f + half];
        const double angle = position * std::pow(10000.0, -2.0 * f / hd);
        return (float)(d < half ? a * std::cos(angle) - b * std::sin(angle) : b * std::cos(angle) + a * std::sin(angle));
    };
    for (int r = 0; r < rows; r++) {
        const RowPlace p = places[r];
        for (int h = 0; h < heads; h++)
            for (int d = 0; d < hd; d++) {
                got.push_back((float)out[(r * heads + h) * hd + d]);
                want.push_back(turned(&q[(r * heads + h) * hd], &qb[h * hd], p.position, d));
            }
        for (int h = 0; h < kv_heads; h++)
            for (int d = 0; d < hd; d++) {
                const size_t at = p.branch < 0 ? ((size_t)h * prefix_room + p.at) * hd + d
                                               : (((size_t)p.branch * kv_heads + h) * branch_room + p.at) * hd + d;
                got.push_back((float)(p.branch < 0 ? pk : bk)[at]);
                want.push_back(turned(&k[(r * kv_heads + h) * hd], &kb[h * hd], p.position, d));
                got.push_back((float)(p.branch < 0 ? pv : bv)[at]);
                want.push_back(v[(r * kv_heads + h) * hd + d] + vb[h * hd + d]);
            }
    }
    agree("rope_store", got, want, 2e-3f);
}

static void small_steps() {
    const int rows = 3, hidden = 1000;
    auto x = floats(rows * hidden);
    const auto add = floats(x.size()), weight = floats(hidden);
    auto sum = x;
    std::vector<float> out(x.size()), want(x.size());
    for (int r = 0; r < rows; r++) {
        double squares = 0;
        for (int i = 0; i < hidden; i++) {
            sum[r * hidden + i] += add[r * hidden + i];
            squares += std::pow((double)sum[r * hidden + i], 2);
        }
        for (int i = 0; i < hidden; i++)
            want[r * hidden + i] = (float)(sum[r * hidden + i] / std::sqrt(squares / hidden + 1e-6) * weight[i]);
    }
    emulator::launch({rows, 1, 1}, 256, [&] { add_rms_norm(x.data(), add.data(), weight.data(), out.data(), hidden, 1e-6f); });
    agree("add_rms_norm, stream", x, sum, 0.f);
    agree("add_rms_norm, norm", out, want, 1e-5f);
    emulator::launch({rows, 1, 1}, 256, [&] { add_rms_norm(x.data(), nullptr, weight.data(), out.data(), hidden, 1e-6f); });
    agree("add_rms_norm without add", out, want, 1e-5f);

    auto gate = floats(5001);
    const auto up = floats(gate.size());
    auto silu = gate;
    for (size_t i = 0; i < gate.size(); i++) silu[i] = (float)(gate[i] / (1 + std::exp(-(double)gate[i])) * up[i]);
    std::vector<float> product(gate.size());
    emulator::launch({3, 1, 1}, 128, [&] { silu_mul(gate.data(), up.data(), product.data(), (int)gate.size()); });
    agree("silu_mul", product, silu, 1e-6f);
}

int main() {
    attention({"decode, six branches over one prefix, 128", 128, 128, 12, 2, 301, 512, 64, 4,
               {5, 1, 40, 33, 2, 7}, {{0, 1}, {1, 1}, {2, 1}, {3, 1}, {4, 1}, {5, 1}}, false});
    attention({"ragged drafts, group of seven", 128, 128, 28, 4, 65, 80, 64, 2, {9, 3, 34}, {{2, 9}, {0, 4}, {1, 3}}, false});
    attention({"prefix grows, 64", 64, 64, 4, 2, 130, 256, 16, 1, {}, {{-1, 70}}, false});
    attention({"prefix grows in splits", 64, 64, 4, 2, 130, 256, 16, 3, {}, {{-1, 33}}, false});
    attention({"first token of all", 64, 64, 4, 4, 1, 32, 16, 2, {}, {{-1, 1}}, false});
    attention({"a frame of its own, heads of 72", 72, 80, 3, 3, 45, 45, 16, 1, {}, {{-1, 45}}, true});
    rope();
    small_steps();
    return failed != 0;
}
