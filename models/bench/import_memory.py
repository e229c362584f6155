"""Peak memory of `firmware-agent models import` on a checkpoint of the 7B shape.

    python3 models/bench/import_memory.py target/release/firmware-agent [7b|2b] [FOLDER]

Makes a checkpoint in four shards (bfloat16, the same 16 million random values again and again, of magnitudes from 0.002
to 0.03) and a LoRA adapter of rank 64 for all seven matrices of each layer, imports them to Q4_K in FOLDER (21 GB of room
for 7B, 6 GB for 2B), and prints the peak resident memory that the kernel counted, the time and the rate. Needs the
standard library alone.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
           r"|\s+(?!\S)|\s+")
LIMIT = 2 << 30
SHAPES = {"7b": dict(h=3584, f=18944, layers=28, heads=28, kv=4, vocab=152064, tied=False),
          "2b": dict(h=1536, f=8960, layers=28, heads=12, kv=2, vocab=151936, tied=True)}


def language(s):
    h, f, kv = s["h"], s["f"], s["h"] // s["heads"] * s["kv"]
    yield "model.embed_tokens.weight", [s["vocab"], h]
    for n in range(s["layers"]):
        p = f"model.layers.{n}."
        for name, rows, columns, bias in matrices(h, f, kv):
            yield f"{p}{name}.weight", [rows, columns]
            if bias:
                yield f"{p}{name}.bias", [rows]
        yield p + "input_layernorm.weight", [h]
        yield p + "post_attention_layernorm.weight", [h]
    yield "model.norm.weight", [h]
    if not s["tied"]:
        yield "lm_head.weight", [s["vocab"], h]


def matrices(h, f, kv):
    return [("self_attn.q_proj", h, h, True), ("self_attn.k_proj", kv, h, True), ("self_attn.v_proj", kv, h, True),
            ("self_attn.o_proj", h, h, False), ("mlp.gate_proj", f, h, False), ("mlp.up_proj", f, h, False),
            ("mlp.down_proj", h, f, False)]


def rest(s):
    p, w = "model.vision_encoder.", 1152
    yield p + "embeddings.patch_embedding.weight", [w, 3, 14, 14]
    yield p + "embeddings.patch_embedding.bias", [w]
    for n in range(27):
        q = f"{p}encoder.layers.{n}."
        for part in ["q_proj", "k_proj", "v_proj", "out_proj"]:
            yield f"{q}self_attn.{part}.weight", [w, w]
            yield f"{q}self_attn.{part}.bias", [w]
        for part, rows, columns in [("fc1", 4304, w), ("fc2", w, 4304)]:
            yield f"{q}mlp.{part}.weight", [rows, columns]
            yield f"{q}mlp.{part}.bias", [rows]
        for part in ["layer_norm1.weight", "layer_norm1.bias", "layer_norm2.weight", "layer_norm2.bias"]:
            yield q + part, [w]
    yield p + "post_layernorm.weight", [w]
    yield p + "post_layernorm.bias", [w]
    for layer, columns in [(0, w), (2, s["h"])]:
        yield f"model.mm_projector.readout.{layer}.weight", [s["h"], columns]
        yield f"model.mm_projector.readout.{layer}.bias", [s["h"]]


def random_values(count):
    """So many random numbers in bfloat16: any mantissa, either sign, exponents of 2^-9 to 2^-6."""
    high = bytes(0x3B + i % 2 + 0x80 * (i // 2 % 2) for i in range(256))
    values = bytearray(2 * count)
    values[0::2] = os.urandom(count)
    values[1::2] = os.urandom(count).translate(high)
    return values


BLOCK = random_values(16 << 20)


def shard_file(path, tensors):
    header, at = {}, 0
    for name, dims in tensors:
        n = 2
        for d in dims:
            n *= d
        header[name] = {"dtype": "BF16", "shape": dims, "data_offsets": [at, at + n]}
        at += n
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text)
        for done in range(0, at, len(BLOCK)):
            f.write(memoryview(BLOCK)[:min(len(BLOCK), at - done)])
    return at


def checkpoint(folder, s):
    tensors = list(language(s)) + list(rest(s))
    total, weight_map = 0, {}
    for i in range(4):
        name = f"model-0000{i + 1}-of-00004.safetensors"
        shard = tensors[i * len(tensors) // 4:(i + 1) * len(tensors) // 4]
        total += shard_file(folder / name, shard)
        weight_map.update({t: name for t, _ in shard})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    config = dict(hidden_size=s["h"], intermediate_size=s["f"], num_hidden_layers=s["layers"],
                  num_attention_heads=s["heads"], num_key_value_heads=s["kv"], vocab_size=s["vocab"],
                  tie_word_embeddings=s["tied"], image_token_index=151665, rope_theta=1e6, rms_norm_eps=1e-6)
    (folder / "config.json").write_text(json.dumps(config))
    # Tokens and merges as many and about as long as Qwen2's have them.
    vocab = {f"t{i:05x}": i for i in range(151643)}
    added = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    added = [{"id": 151643 + i, "content": t, "special": True} for i, t in enumerate(added)]
    merges = [f"t{i % 4096:05x} t{i:05x}" for i in range(151387)]
    tokenizer = {"normalizer": {"type": "NFC"}, "added_tokens": added,
                 "pre_tokenizer": {"pretokenizers": [{"pattern": {"Regex": PATTERN}}]},
                 "model": {"type": "BPE", "vocab": vocab, "merges": merges}}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return total


def adapter(folder, s):
    folder.mkdir()
    h, f, kv = s["h"], s["f"], s["h"] // s["heads"] * s["kv"]
    tensors = []
    for n in range(s["layers"]):
        for name, rows, columns, _ in matrices(h, f, kv):
            module = f"base_model.model.model.layers.{n}.{name}"
            tensors += [(module + ".lora_A.weight", [64, columns]), (module + ".lora_B.weight", [rows, 64])]
    shard_file(folder / "adapter_model.safetensors", tensors)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 64, "lora_alpha": 16}))


def main():
    binary, shape = sys.argv[1], SHAPES[sys.argv[2] if len(sys.argv) > 2 else "7b"]
    place = sys.argv[3] if len(sys.argv) > 3 else None
    with tempfile.TemporaryDirectory(dir=place) as folder:
        base, out = Path(folder) / "base", Path(folder) / "out.gguf"
        base.mkdir()
        size = checkpoint(base, shape)
        adapter(Path(folder) / "adapter", shape)
        asked = Path(folder) / "q.toml"
        tasks = ["recognition", "description", "cause", "prevention", "localization", "pre_crash"]
        asked.write_text("[prompts]\n" + "".join(f'{t} = "{t}?"\n' for t in tasks))
        begun = time.monotonic()
        done = subprocess.run([binary, "models", "import", "--base", base, "--adapter", Path(folder) / "adapter",
                               "--prompts", asked, "--out", out], stdout=subprocess.PIPE, check=True)
        seconds = time.monotonic() - begun
        said = json.loads(done.stdout)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        print(f"{said['parameters'] / 1e9:.2f} e9 weights, {said['merged']} matrices merged, {os.path.getsize(out) / 1e9:.2f} GB "
              f"written in {seconds:.0f} s ({size / seconds / 1e6:.0f} MB/s of checkpoint), peak resident {peak / 1e6:.0f} MB "
              f"of {LIMIT / 1e6:.0f} MB allowed")
        sys.exit(0 if peak < LIMIT else 1)


if __name__ == "__main__":
    main()
