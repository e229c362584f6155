"""Random GGUF files of the qwen2 family for the benchmarks: quantised blocks of random bits, scales such that weights
have a standard deviation near 0.02 to 0.04. They answer nothing; only their speed means something.

Usage: student_files.py OUT.gguf --shape body85|small|2b|7b --type q8_0|q4_k [--layers N]
Types as the converter writes them: q4_k means q, k, o, gate, up in Q4_K and v, down, embedding in Q6_K.
"""
import argparse

import gguf
import numpy as np

SHAPES = {  # hidden, ffn, layers, heads, key-value heads, vocabulary, tied
    "body85": (768, 3072, 10, 12, 4, 8192, True),
    "small": (256, 768, 8, 4, 2, 2048, True),
    "2b": (1536, 8960, 28, 12, 2, 151936, True),
    "7b": (3584, 18944, 28, 28, 4, 152064, False),
}
QT = gguf.GGMLQuantizationType


def half(rng, count, mean):
    """`count` positive half-precision scales around `mean`, as bytes (count, 2)."""
    return (mean * rng.uniform(0.8, 1.2, count)).astype("<f2").view(np.uint8).reshape(count, 2)


def blocks(rng, rows, cols, kind):
    """Random blocks of a rows x cols matrix: uint8, rows x bytes of a row."""
    if kind == QT.Q8_0:
        n = rows * cols // 32
        quants = rng.integers(-127, 128, (n, 32), dtype=np.int8).view(np.uint8)
        return np.concatenate([half(rng, n, 0.0004), quants], axis=1).reshape(rows, -1)
    n = rows * cols // 256
    if kind == QT.Q4_K:
        d = half(rng, n, 0.00015)
        dmin = (7.5 * d.view("<f2").astype(np.float32)).astype("<f2").view(np.uint8).reshape(n, 2)
        scales = rng.integers(0, 64, (n, 8), dtype=np.uint8)  # one six-bit number for scale and minimum: mean zero
        low = scales[:, :4] | ((scales[:, 4:] >> 4) << 6)
        mixed = (scales[:, 4:] & 15) | ((scales[:, 4:] & 15) << 4)
        quants = rng.integers(0, 256, (n, 128), dtype=np.uint8)
        return np.concatenate([d, dmin, low, low, mixed, quants], axis=1).reshape(rows, -1)
    if kind == QT.Q6_K:
        bits = rng.integers(0, 256, (n, 192), dtype=np.uint8)
        scales = rng.integers(-64, 64, (n, 16), dtype=np.int8).view(np.uint8)
        return np.concatenate([bits, scales, half(rng, n, 0.00005)], axis=1).reshape(rows, -1)
    raise ValueError(kind)


def write(path, shape, kind, layers=None, seed=1):
    """Writes one file; returns the number of weights in the layers (the body)."""
    hidden, ffn, all_layers, heads, kv_heads, vocab, tied = SHAPES[shape]
    layers = layers or all_layers
    rng = np.random.default_rng(seed)
    kv = hidden // heads * kv_heads
    most, some = (QT.Q8_0, QT.Q8_0) if kind == "q8_0" else (QT.Q4_K, QT.Q6_K)
    out = gguf.GGUFWriter(path, "qwen2")
    out.add_name(f"random {shape} {kind}")
    out.add_block_count(layers)
    out.add_context_length(4096)
    out.add_embedding_length(hidden)
    out.add_feed_forward_length(ffn)
    out.add_head_count(heads)
    out.add_head_count_kv(kv_heads)
    out.add_rope_freq_base(1e6)
    out.add_layer_norm_rms_eps(1e-6)
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("qwen2")
    out.add_token_list([f"t{i}" for i in range(vocab)])
    out.add_token_types([1] * vocab)
    out.add_token_merges(["t 0"])
    out.add_eos_token_id(0)

    def matrix(name, rows, cols, kind):
        out.add_tensor(name, blocks(rng, rows, cols, kind), raw_dtype=kind)

    def vector(name, size, mean, spread):
        out.add_tensor(name, rng.normal(mean, spread, size).astype(np.float32))

    matrix("token_embd.weight", vocab, hidden, some)
    vector("output_norm.weight", hidden, 1, 0.1)
    if not tied:
        matrix("output.weight", vocab, hidden, some)
    for i in range(layers):
        at = f"blk.{i}."
        vector(at + "attn_norm.weight", hidden, 1, 0.1)
        vector(at + "ffn_norm.weight", hidden, 1, 0.1)
        for name, rows, cols, kind in [
            ("attn_q", hidden, hidden, most), ("attn_k", kv, hidden, most), ("attn_v", kv, hidden, some),
            ("attn_output", hidden, hidden, most), ("ffn_gate", ffn, hidden, most), ("ffn_up", ffn, hidden, most),
            ("ffn_down", hidden, ffn, some),
        ]:
            matrix(at + name + ".weight", rows, cols, kind)
        for name, size in [("attn_q", hidden), ("attn_k", kv), ("attn_v", kv)]:
            vector(at + name + ".bias", size, 0, 0.1)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return layers * (2 * hidden * hidden + 2 * hidden * kv + 3 * hidden * ffn)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--shape", choices=SHAPES, default="body85")
    parser.add_argument("--type", choices=["q8_0", "q4_k"], default="q8_0")
    parser.add_argument("--layers", type=int)
    args = parser.parse_args()
    print(write(args.out, args.shape, args.type, args.layers), "weights in the layers")
