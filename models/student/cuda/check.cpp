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
    int frame_heads;
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
    std::vector<__half> result((size_t)rows * c.heads * hd);
    std::vector<float> want(result.size());
    const float scale = 1.f / std::sqrt((float)hd);
    const int group = c.heads / c.kv_heads, queries = rows * group, tiles = (queries + WARPS * TILE_Q - 1) / (WARPS * TILE_Q);
    Header header = {rows, c.prefix_len, branches, 0, {}};
    for (int b = 0; b < branches; b++) header.branch_len[b] = c.branch_len[b];
    const Attention a = {q.data(), pk.data(), pv.data(), bk.data(), bv.data(), places.data(), &header, result.data(), part.data(),
                         stat.data(), c.heads, c.kv_heads, c.frame_heads, hd, c.prefix_room, c.branch_room, c.splits, scale};
    emulator::launch({(unsigned)tiles + 1, (unsigned)c.kv_heads, (unsigned)c.splits}, WARPS * 32,
                     [&] { c.padded == 64 ? attend_64(a) : c.padded == 80 ? attend_80(a) : attend_128(a); });
    if (c.splits > 1)
        emulator::launch({(unsigned)(rows * c.heads + 3), 1, 1}, 128,
                         [&] { join_splits(part.data(), stat.data(), result.data(), c.heads, hd, c.splits, &header); });
    // One split: [frame][row][frame's heads].
    std::vector<float> out(result.size());
    for (int r = 0; r < rows; r++)
        for (int h = 0; h < c.heads; h++)
            for (int d = 0; d < hd; d++) {
                const size_t frame = h / c.frame_heads, of_frame = h % c.frame_heads;
                const size_t from = c.splits > 1 ? (size_t)r * c.heads + h : (frame * rows + r) * c.frame_heads + of_frame;
                out[((size_t)r * c.heads + h) * hd + d] = (float)result[from * hd + d];
            }
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
    if (branches == 0) return;
    // The same with blocks of their own for branches, one of them for none.
    const int all = c.splits + branches + 1;
    std::vector<float> more((size_t)all * rows * c.heads * hd), more_stat((size_t)all * rows * c.heads * 2);
    Attention own = a;
    own.part_out = more.data(), own.part_stat = more_stat.data();
    emulator::launch({(unsigned)tiles, (unsigned)c.kv_heads, (unsigned)all}, WARPS * 32,
                     [&] { c.padded == 64 ? attend_64(own) : c.padded == 80 ? attend_80(own) : attend_128(own); });
    emulator::launch({(unsigned)(rows * c.heads), 1, 1}, 128,
                     [&] { join_splits(more.data(), more_stat.data(), result.data(), c.heads, hd, all, &header); });
    agree("the same, branches apart", {result.begin(), result.end()}, want, 2e-3f);
}

static void rope() {
    const int heads = 6, kv_heads = 2, hd = 64, prefix_room = 40, branch_room = 8, branches = 3;
    const std::vector<RowPlace> places = {{-1, 17, 17, 18}, {2, 5, 25, 20}, {0, 0, 20, 20}};
    const int rows = (int)places.size(), half = hd / 2;
    const int width = (heads + 2 * kv_heads) * hd;
    const auto qkv = floats(rows * width), bias = floats(width);
    const Header header = {rows, 20, branches, 0, {}};
    std::vector<float> cosine(64 * half), sine(cosine.size());
    for (int p = 0; p < 64; p++)
        for (int f = 0; f < half; f++) {
            const double angle = p * std::pow(10000.0, -2.0 * f / hd);
            cosine[p * half + f] = (float)std::cos(angle), sine[p * half + f] = (float)std::sin(angle);
        }
    std::vector<__half> out(rows * heads * hd), pk(kv_heads * prefix_room * hd), pv(pk.size()), bk(branches * kv_heads * branch_room * hd),
        bv(bk.size());
    emulator::launch({(unsigned)rows + 1, 1, 1}, 64, [&] {
        rope_store(qkv.data(), bias.data(), cosine.data(), sine.data(), places.data(), out.data(), pk.data(), pv.data(), bk.data(),
                   bv.data(), heads, kv_heads, hd, prefix_room, branch_room, &header);
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
                want.push_back(turned(&qkv[r * width + h * hd], &bias[h * hd], p.position, d));
            }
        for (int h = 0; h < kv_heads; h++)
            for (int d = 0; d < hd; d++) {
                const size_t at = p.branch < 0 ? ((size_t)h * prefix_room + p.at) * hd + d
                                               : (((size_t)p.branch * kv_heads + h) * branch_room + p.at) * hd + d;
                got.push_back((float)(p.branch < 0 ? pk : bk)[at]);
                want.push_back(turned(&qkv[r * width + (heads + h) * hd], &bias[(heads + h) * hd], p.position, d));
                got.push_back((float)(p.branch < 0 ? pv : bv)[at]);
                want.push_back(qkv[r * width + (heads + kv_heads + h) * hd + d] + bias[(heads + kv_heads + h) * hd + d]);
            }
    }
    agree("rope_store", got, want, 2e-3f);
}

static void small_steps() {
    const int rows = 3, width = 1000;
    const auto x = floats(rows * width), weight = floats(width), bias = floats(width), add = floats(width);
    std::vector<__half> out(x.size());
    std::vector<float> rms, layer, sum;
    for (int r = 0; r < rows; r++) {
        double squares = 0, mean = 0, spread = 0;
        std::vector<double> y(width);
        for (int i = 0; i < width; i++) {
            squares += std::pow((double)x[r * width + i], 2);
            y[i] = (double)x[r * width + i] + add[i];
            mean += y[i] / width;
            sum.push_back((float)y[i]);
        }
        for (int i = 0; i < width; i++) spread += std::pow(y[i] - mean, 2) / width;
        for (int i = 0; i < width; i++) {
            rms.push_back((float)(x[r * width + i] / std::sqrt(squares / width + 1e-6) * weight[i]));
            layer.push_back((float)((y[i] - mean) / std::sqrt(spread + 1e-6) * weight[i] + bias[i]));
        }
    }
    const auto got = [&](const std::vector<__half> &h) { return std::vector<float>(h.begin(), h.end()); };
    emulator::launch({rows, 1, 1}, 256, [&] { rms_norm(x.data(), weight.data(), out.data(), width, 1e-6f, nullptr); });
    agree("rms_norm", got(out), rms, 2e-3f);
    auto stream = x;
    emulator::launch({rows, 1, 1}, 256,
                     [&] { layer_norm(stream.data(), add.data(), weight.data(), bias.data(), out.data(), width, 1e-6f); });
    agree("layer_norm, stream", stream, sum, 1e-6f);
    agree("layer_norm, norm", got(out), layer, 3e-3f);

    const auto gate = floats(5001), up = floats(gate.size());
    std::vector<float> silu, tangent, by_error;
    std::vector<__half> product(gate.size()), a(5000), b(5000);
    for (size_t i = 0; i < gate.size(); i++)
        silu.push_back((float)(gate[i] / (1 + std::exp(-(double)gate[i])) * up[i] / DOWN_SCALE));
    emulator::launch({3, 1, 1}, 128, [&] { silu_mul(gate.data(), up.data(), product.data(), (int)gate.size()); });
    agree("silu_mul", got(product), silu, 1e-5f);
    for (int i = 0; i < 5000; i++) {
        a[i] = b[i] = (__half)(gate[i] * 6);
        const double v = (double)a[i] + bias[i % width];
        tangent.push_back((float)(0.5 * v * (1 + std::tanh(std::sqrt(2 / M_PI) * (v + 0.044715 * v * v * v)))));
        by_error.push_back((float)(0.5 * v * (1 + std::erf(v / std::sqrt(2.0)))));
    }
    emulator::launch({3, 1, 1}, 128, [&] { gelu(a.data(), bias.data(), width, 5000, 0); });
    emulator::launch({3, 1, 1}, 128, [&] { gelu(b.data(), bias.data(), width, 5000, 1); });
    agree("gelu, tangent form", got(a), tangent, 4e-3f);
    agree("gelu by the error function", got(b), by_error, 4e-3f);

    std::vector<float> filled(3 * width), want_filled;
    for (int i = 0; i < 3 * width; i++) want_filled.push_back(bias[i % width]);
    emulator::launch({2, 1, 1}, 64, [&] { fill_rows(filled.data(), bias.data(), width, 3 * width); });
    agree("fill_rows", filled, want_filled, 0.f);
    std::vector<__half> as_half(x.size());
    emulator::launch({2, 1, 1}, 64, [&] { to_half(x.data(), as_half.data(), (int)x.size()); });
    agree("to_half", got(as_half), x, 5e-4f);
    const auto patches = halves(24 * 40);
    const std::vector<int> kept = {4, 1, 5};
    std::vector<__half> means(3 * 40);
    std::vector<float> want_means;
    for (int t : kept)
        for (int i = 0; i < 40; i++) {
            double mean = 0;
            for (int m = 0; m < 4; m++) mean += (double)patches[(t * 4 + m) * 40 + i] / 4;
            want_means.push_back((float)mean);
        }
    emulator::launch({3, 1, 1}, 32, [&] { gather_mean(patches.data(), kept.data(), means.data(), 40, 4); });
    agree("gather_mean", got(means), want_means, 1e-3f);
}

static void patches() {
    const int frames = 2, count = 12, heads = 3, dim = 24, width = heads * dim, half = dim / 2;
    const auto qkv = halves((size_t)frames * count * 3 * width);
    const auto bias = floats(3 * width), cosine = floats(count * half), sine = floats(count * half);
    std::vector<__half> q((size_t)frames * count * width), k(q.size()), v(q.size());
    emulator::launch({frames * count, 1, 1}, 32, [&] {
        rope_patches(qkv.data(), bias.data(), cosine.data(), sine.data(), q.data(), k.data(), v.data(), frames, count, heads, dim);
    });
    std::vector<float> got, want;
    for (int f = 0; f < frames; f++)
        for (int p = 0; p < count; p++)
            for (int h = 0; h < heads; h++)
                for (int d = 0; d < dim; d++) {
                    const auto raw = [&](int part, int at) {
                        return (double)qkv[((size_t)f * count + p) * 3 * width + part * width + h * dim + at] + bias[part * width + h * dim + at];
                    };
                    const auto turned = [&](int part) {
                        const double c = cosine[p * half + d % half], s = sine[p * half + d % half];
                        return (float)(d < half ? raw(part, d) * c - raw(part, d + half) * s : raw(part, d) * c + raw(part, d - half) * s);
                    };
                    got.push_back((float)q[(((size_t)p * frames + f) * heads + h) * dim + d]), want.push_back(turned(0));
                    const size_t at = (((size_t)f * heads + h) * count + p) * dim + d;
                    got.push_back((float)k[at]), want.push_back(turned(1));
                    got.push_back((float)v[at]), want.push_back((float)raw(2, d));
                }
    agree("rope_patches", got, want, 4e-3f);
}

// A file's rows of one type, and their values by the format's own definition (ggml's block layouts).
struct Weights {
    std::vector<unsigned char> bytes;
    std::vector<float> values;
};
static unsigned random_byte() { return (unsigned)((random_value() + 1) * 127.99f); }
static void put_half(std::vector<unsigned char> &to, float v) {
    const __half h = (__half)v;
    unsigned char b[2];
    std::memcpy(b, &h, 2);
    to.insert(to.end(), b, b + 2);
}
static Weights weights(int type, int n, int k) {
    Weights w;
    const int block = type == Q4_K || type == Q6_K ? 256 : 32;
    for (int i = 0; i < n * k / block; i++) {
        const float d = (float)(__half)(0.01f * (random_value() + 1.1f)), least = (float)(__half)(0.01f * (random_value() + 1.1f));
        auto &b = w.bytes;
        const size_t at = b.size();
        if (type == Q4_K) {
            put_half(b, d), put_half(b, least);
            for (int j = 0; j < 140; j++) b.push_back((unsigned char)random_byte());
            for (int s = 0; s < 8; s++)
                for (int e = 0; e < 32; e++) {
                    const unsigned char *sc = &b[at + 4];
                    const int scale = s < 4 ? sc[s] & 63 : (sc[s + 4] & 15) | (sc[s - 4] >> 6) << 4;
                    const int minimum = s < 4 ? sc[s + 4] & 63 : sc[s + 4] >> 4 | (sc[s] >> 6) << 4;
                    const int both = b[at + 16 + s / 2 * 32 + e], q = s % 2 ? both >> 4 : both & 15;
                    w.values.push_back(d * scale * q - least * minimum);
                }
        } else if (type == Q6_K) {
            for (int j = 0; j < 208; j++) b.push_back((unsigned char)random_byte());
            put_half(b, d);
            for (int i = 0; i < 256; i++) {
                const int half = i / 128, part = i % 128 / 32, l = i % 32;
                const int low = b[at + 64 * half + l + part % 2 * 32], high = b[at + 128 + 32 * half + l];
                const int q = ((part < 2 ? low & 15 : low >> 4) | (high >> 2 * part & 3) << 4) - 32;
                w.values.push_back(d * (signed char)b[at + 192 + 8 * half + l / 16 + 2 * part] * q);
            }
        } else if (type == Q8_0) {
            put_half(b, d);
            for (int j = 0; j < 32; j++) {
                b.push_back((unsigned char)random_byte());
                w.values.push_back(d * (signed char)b.back());
            }
        } else {
            for (int j = 0; j < 32; j++) {
                const float v = (float)(__half)random_value();
                put_half(b, v);
                w.values.push_back(v);
            }
        }
    }
    return w;
}

static const char *const TYPES[] = {"F16", "Q8_0", "Q4_K", "Q6_K"};

// Largest absolute value, for tolerances that fit the numbers.
static float most(const std::vector<float> &v) {
    float m = 0;
    for (float x : v) m = std::max(m, std::fabs(x));
    return m;
}

static std::vector<unsigned char> tiles_of(const Weights &w, int type, int n, int k, int turned = 0) {
    const int tiles = (n + 15) / 16;
    std::vector<unsigned char> out((size_t)tiles * (k / unit_k(type)) * unit_bytes(type) + 16);
    emulator::launch({2, 1, 1}, 64, [&] { pack_tiles(w.bytes.data(), out.data(), type, n, k, tiles, turned); });
    return out;
}

static void products() {
    const int k = 512, n = 40;
    for (int type = F16; type <= Q6_K; type++) {
        const auto w = weights(type, n, k);
        const auto data = tiles_of(w, type, n, k);
        const Matrix m = {data.data(), nullptr, type, n, k, 0, 0};
        std::vector<__half> rows((size_t)48 * k);
        emulator::launch({3, 1, 1}, 64, [&] { unpack_tiles(m, rows.data()); });
        char name[80];
        std::snprintf(name, sizeof name, "%s to tiles and back", TYPES[type]);
        agree(name, {rows.begin(), rows.begin() + (size_t)n * k}, w.values, most(w.values) * 1e-3f);
        const std::vector<unsigned> tokens = {39, 0, 17};
        std::vector<float> embedded(3 * k), want;
        for (unsigned t : tokens) want.insert(want.end(), w.values.begin() + t * k, w.values.begin() + (t + 1) * k);
        emulator::launch({2, 1, 1}, 64, [&] { embed(m, tokens.data(), embedded.data(), 3); });
        std::snprintf(name, sizeof name, "%s rows of an embedding", TYPES[type]);
        agree(name, embedded, want, most(want) * 1e-3f);
        for (int rows_here : {1, 6, 8, 19}) {
            const int all = rows_here > 8 ? 32 : 8;
            const auto x = halves((size_t)all * k);
            const auto bias = floats(n);
            std::vector<float> out((size_t)all * 50, 0.5f), want_out = out;
            for (int r = 0; r < all; r++)
                for (int i = 0; i < n; i++) {
                    double sum = 0;
                    for (int j = 0; j < k; j++) sum += (double)x[r * k + j] * w.values[i * k + j];
                    want_out[r * 50 + 7 + i] = (float)(sum * 2) + bias[i];
                }
            Linear l{};
            l.m.of[0] = {data.data(), bias.data(), type, n, k, 7, 0}, l.m.count = 1;
            l.x = x.data(), l.out = out.data(), l.width = 50, l.scale = 2.f;
            emulator::launch({2, 1, 1}, 96, [&] { rows_here > 8 ? linear_32_store(l) : linear_8_store(l); });
            std::snprintf(name, sizeof name, "%s times %d rows", TYPES[type], rows_here);
            agree(name, out, want_out, most(want_out) * 1e-3f);
        }
    }
}

// The steps of one block on a stream, each against plain loops on what the one before left.
static void block_of_few_rows(int asked, bool many) {
    const int rows = many ? 32 : 8;  // those that nobody asked for stand nowhere
    const int heads = 4, kv_heads = 2, hd = 64, k = heads * hd, kv = kv_heads * hd, ffn = 512, slots = k / 16, half = hd / 2;
    const int sizes[3] = {k, kv, kv}, types[3] = {Q4_K, Q4_K, Q6_K}, branch_room = 6, branches = 3, prefix_room = 4;
    const auto label = [&](const char *what) {
        static char name[96];
        std::snprintf(name, sizeof name, "%s, %d rows", what, asked);
        return name;
    };
    auto x = floats((size_t)rows * k);
    const auto weight = floats(k), next_weight = floats(k);
    std::vector<__half> next((size_t)rows * k);
    std::vector<float> squares((size_t)rows * slots);
    emulator::launch({(unsigned)rows, 1, 1}, 32, [&] { prepare(x.data(), weight.data(), next.data(), squares.data(), k, slots); });
    const auto normed = [&](const std::vector<float> &stream, const std::vector<float> &w) {
        std::vector<double> y(stream.size());
        for (int r = 0; r < rows; r++) {
            double sum = 0;
            for (int j = 0; j < k; j++) sum += std::pow((double)stream[r * k + j], 2);
            for (int j = 0; j < k; j++) y[r * k + j] = stream[r * k + j] / std::sqrt(sum / k + 1e-6) * w[j];
        }
        return y;
    };
    const auto times = [&](const std::vector<double> &in, int width, const Weights &w, int n) {
        std::vector<double> y((size_t)rows * n);
        for (int r = 0; r < rows; r++)
            for (int o = 0; o < n; o++)
                for (int j = 0; j < width; j++) y[r * n + o] += in[r * width + j] * w.values[o * width + j];
        return y;
    };
    const auto plain = [](const std::vector<double> &v) { return std::vector<float>(v.begin(), v.end()); };

    // Query, key, value: turned, and put where attention reads them.
    Weights w[3];
    std::vector<unsigned char> data[3];
    const auto bias = floats(k + 2 * kv), cosine = floats(16 * half), sine = floats(16 * half);
    Linear l{};
    l.m.count = 3;
    for (int i = 0, first = 0; i < 3; first += sizes[i++]) {
        w[i] = weights(types[i], sizes[i], k), data[i] = tiles_of(w[i], types[i], sizes[i], k, half);
        l.m.of[i] = {data[i].data(), bias.data() + first, types[i], sizes[i], k, first, half};
        std::vector<__half> back((size_t)sizes[i] * k);
        emulator::launch({2, 1, 1}, 64, [&] { unpack_tiles(l.m.of[i], back.data()); });
        agree(label("turned tiles and back"), {back.begin(), back.end()}, w[i].values, most(w[i].values) * 1e-3f);
    }
    std::vector<RowPlace> places;
    for (int r = 0; r < rows; r++)
        places.push_back(r >= asked ? RowPlace{-2, 0, 0, 0} : r == 1 ? RowPlace{-1, 3, 3, 4} : RowPlace{r % branches, r / branches % branch_room, 4 + r % 11, 4});
    std::vector<__half> q((size_t)rows * k), pk(kv * prefix_room), pv(pk.size()), bk((size_t)branches * kv * branch_room), bv(bk.size());
    l.x = next.data(), l.squares = squares.data(), l.slots = slots, l.eps = 1e-6f, l.scale = 1.f;
    l.cosine = cosine.data(), l.sine = sine.data(), l.places = places.data(), l.q_out = q.data(), l.prefix_k = pk.data();
    l.prefix_v = pv.data(), l.branch_k = bk.data(), l.branch_v = bv.data(), l.heads = heads, l.kv_heads = kv_heads, l.dim = hd;
    l.prefix_room = prefix_room, l.branch_room = branch_room;
    emulator::launch({5, 1, 1}, 64, [&] { many ? linear_32_turned(l) : linear_8_turned(l); });
    std::vector<float> got, want;
    for (int i = 0; i < 3; i++) {
        const auto y = times(normed(x, weight), k, w[i], sizes[i]);
        for (int r = 0; r < asked; r++)
            for (int o = 0; o < sizes[i]; o++) {
                const RowPlace p = places[r];
                const int d = o % hd, head = o / hd;
                const auto value = [&](int at) { return y[r * sizes[i] + head * hd + at] + bias[(i == 0 ? 0 : i == 1 ? k : k + kv) + head * hd + at]; };
                const double c = cosine[p.position * half + d % half], s = sine[p.position * half + d % half];
                want.push_back((float)(i == 2 ? value(d) : d < half ? value(d) * c - value(d + half) * s : value(d) * c + value(d - half) * s));
                const size_t at = p.branch < 0 ? ((size_t)head * prefix_room + p.at) * hd + d
                                               : (((size_t)p.branch * kv_heads + head) * branch_room + p.at) * hd + d;
                const auto &own = i == 1 ? (p.branch < 0 ? pk : bk) : (p.branch < 0 ? pv : bv);
                got.push_back((float)(i == 0 ? q[(size_t)r * k + o] : own[at]));
            }
    }
    agree(label("query, key and value"), got, want, most(want) * 3e-3f);
    // Nothing else was written: rows that stand nowhere left the caches as they were.
    std::vector<float> stray;
    std::vector<char> written((size_t)branches * branch_room);
    for (const RowPlace &p : places)
        if (p.branch >= 0) written[p.branch * branch_room + p.at] = 1;
    for (size_t i = 0; i < bk.size(); i++)
        if (!written[i / ((size_t)kv * branch_room) * branch_room + i / hd % branch_room]) stray.push_back((float)bk[i]), stray.push_back((float)bv[i]);
    agree(label("nothing beside them"), stray, std::vector<float>(stray.size()), 0.f);

    // Into the stream, which is then ready for the next product.
    const auto out = weights(Q4_K, k, k);
    const auto out_data = tiles_of(out, Q4_K, k, k);
    const auto attended = halves((size_t)rows * k);
    Linear a{};
    a.m.of[0] = {out_data.data(), nullptr, Q4_K, k, k, 0, 0}, a.m.count = 1;
    a.x = attended.data(), a.out = x.data(), a.width = k, a.scale = 1.f;
    a.next_weight = next_weight.data(), a.next = next.data(), a.next_squares = squares.data(), a.slots = slots;
    const auto added = times({attended.begin(), attended.end()}, k, out, k);
    std::vector<float> sum = x;
    for (size_t i = 0; i < sum.size(); i++) sum[i] += (float)added[i];
    emulator::launch({7, 1, 1}, 96, [&] { many ? linear_32_add(a) : linear_8_add(a); });
    agree(label("added to the stream"), x, sum, most(sum) * 1e-3f);

    // Gate and up on it.
    const auto gate = weights(Q4_K, ffn, k), up = weights(Q6_K, ffn, k);
    const auto gate_data = tiles_of(gate, Q4_K, ffn, k), up_data = tiles_of(up, Q6_K, ffn, k);
    std::vector<__half> gated((size_t)rows * ffn);
    Linear g{};
    g.m.of[0] = {gate_data.data(), nullptr, Q4_K, ffn, k, 0, 0}, g.m.of[1] = {up_data.data(), nullptr, Q6_K, ffn, k, 0, 0}, g.m.count = 2;
    g.x = next.data(), g.squares = squares.data(), g.slots = slots, g.eps = 1e-6f, g.scale = 1.f;
    g.out = gated.data(), g.width = ffn;
    emulator::launch({9, 1, 1}, 64, [&] { many ? linear_32_gated(g) : linear_8_gated(g); });
    const auto of_gate = times(normed(x, next_weight), k, gate, ffn), of_up = times(normed(x, next_weight), k, up, ffn);
    std::vector<double> product(of_gate.size());
    for (size_t i = 0; i < product.size(); i++) product[i] = of_gate[i] / (1 + std::exp(-of_gate[i])) * of_up[i] / DOWN_SCALE;
    agree(label("gate and up"), {gated.begin(), gated.end()}, plain(product), most(plain(product)) * 4e-3f);

    // Logits of picked rows.
    const int picks[8] = {asked - 1, 0, 1, 1, 0, 0, 0, 0};
    std::vector<float> picked(8 * k), want_picked;
    Linear p = a;
    p.x = next.data(), p.picks = picks, p.squares = squares.data(), p.eps = 1e-6f, p.out = picked.data();
    emulator::launch({3, 1, 1}, 64, [&] { linear_8_store(p); });
    const auto all = times(normed(x, next_weight), k, out, k);
    for (int row : picks) want_picked.insert(want_picked.end(), all.begin() + row * k, all.begin() + (row + 1) * k);
    agree(label("picked rows"), picked, want_picked, most(want_picked) * 3e-3f);
}

static void logits() {
    const int vocab = 1003, rows = 2, slices = 5;
    auto x = floats(rows * vocab);
    x[700] = x[131] = 3.f;  // a tie: the first counts
    std::vector<float> out(rows * slices * 3);
    emulator::launch({slices, 4, 1}, 256, [&] { reduce_logits(x.data(), out.data(), vocab, &rows); });
    std::vector<float> got, want;
    for (int r = 0; r < rows; r++) {
        float best = -1e30f;
        int token = 0;
        double sum = 0, plain = 0;
        for (int s = 0; s < slices; s++) best = std::max(best, out[(r * slices + s) * 3]);
        for (int s = slices - 1; s >= 0; s--) {
            const float *at = &out[(r * slices + s) * 3];
            sum += at[2] * std::exp((double)at[0] - best);
            int its;
            std::memcpy(&its, &at[1], 4);
            if (at[0] == best) token = its;
        }
        int first = 0;
        for (int i = 0; i < vocab; i++) {
            plain += std::exp((double)x[r * vocab + i]);
            if (x[r * vocab + i] > x[r * vocab + first]) first = i;
        }
        got.insert(got.end(), {(float)(best + std::log(sum)), (float)token});
        want.insert(want.end(), {(float)std::log(plain), (float)first});
    }
    agree("reduce_logits", got, want, 1e-5f);
    const std::vector<int> asked = {1, 5, 0, 1002};
    std::vector<float> picked(2);
    emulator::launch({1, 1, 1}, 32, [&] { pick_logits(x.data(), asked.data(), picked.data(), vocab, 2); });
    agree("pick_logits", picked, {x[vocab + 5], x[1002]}, 0.f);
}

int main() {
    attention({"decode, six branches over one prefix, 128", 128, 128, 12, 2, 301, 512, 64, 4,
               {5, 1, 40, 33, 2, 7}, {{0, 1}, {1, 1}, {2, 1}, {3, 1}, {4, 1}, {5, 1}}, false, 12});
    attention({"ragged drafts, group of seven", 128, 128, 28, 4, 65, 80, 64, 2, {9, 3, 34}, {{2, 9}, {0, 4}, {1, 3}}, false, 28});
    attention({"prefix grows, 64", 64, 64, 4, 2, 130, 256, 16, 1, {}, {{-1, 70}}, false, 4});
    attention({"prefix grows in splits", 64, 64, 4, 2, 130, 256, 16, 3, {}, {{-1, 33}}, false, 4});
    attention({"first token of all", 64, 64, 4, 4, 1, 32, 16, 2, {}, {{-1, 1}}, false, 4});
    attention({"two frames of their own, heads of 72", 72, 80, 4, 4, 45, 45, 16, 1, {}, {{-1, 45}}, true, 2});
    rope();
    patches();
    products();
    block_of_few_rows(2, false);
    block_of_few_rows(6, false);
    block_of_few_rows(17, true);
    logits();
    small_steps();
    return failed != 0;
}
