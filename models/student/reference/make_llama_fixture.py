"""Makes fixtures/llama.safetensors: what llama.cpp answers on language halves that this program wrote.

    python reference/make_llama_fixture.py firmware-agent

What it does: writes small VideoLLaMA3 checkpoints whose weights come from an integer hash of the tensor's name and the
index, lets `firmware-agent models import` and `models export-language` make language halves of them, and runs those in
llama.cpp. Stored are the SHA-256 of each half, the prompt's tokens, the logits of its last positions and the greedy
tokens after it. tests/it/exact_llama.rs makes the same halves through the library, bit for bit, and holds the student's
backends to the numbers. The fixtures README says what each entry is.

Made with: llama-cpp-python 0.3.36 (built without BLAS: plain f32 products), numpy 2.4, safetensors 0.8. One argument:
a built firmware-agent. Regenerating must change nothing but the last bits of floats. Takes seconds.
"""

import json
import math
import subprocess
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

import llama_cpp.llama_cpp
import numpy as np
from llama_cpp import GGML_TYPE_F32, Llama
from safetensors.numpy import save_file

OUT = Path(__file__).parent / ".." / "fixtures" / "llama.safetensors"
# The chat format with two frames; their tokens stand for themselves here, since there is no picture.
PROMPT = (
    "<|im_start|>user\nTime 0.0s:<image><image>,Time 0.3s:<image><image>\nWho hits whom?<|im_end|>\n"
    "<|im_start|>assistant\n"
)
ROWS = 4  # positions whose logits are stored: the prompt's last
GREEDY = 16
VOCAB = 512
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<|stream_start|>", "<|stream_end|>"]
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# As TINY and HALF in tests/it/tiny.rs: the head is the embedding as in 2B, and a head of its own as in 7B with rows of
# whole blocks of 256. Of the first 400 numbers 297 leaves the most between the two best tokens of each greedy step.
SHAPES = {
    "tiny": dict(vision=dict(hidden=96, ffn=256, layers=3, heads=4),
                 hidden=128, ffn=352, layers=3, heads=4, kv=2, tied=True),
    "half297": dict(vision=dict(hidden=64, ffn=128, layers=2, heads=2),
                    hidden=256, ffn=512, layers=2, heads=4, kv=2, tied=False),
}
# The lively tiny model multiplies each rounding error several times, so it is compared in f32 alone.
CASES = [("tiny", "f32"), ("half297", "f32"), ("half297", "q8_0"), ("half297", "q4_k")]


def even(name, n):
    """n numbers of a name in [-1, 1): the same as in make_fixtures.py and tests/it/tiny.rs."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = ((seed ^ byte) * 0x100000001B3) % 2**64
    with np.errstate(over="ignore"):
        x = np.uint64(seed) + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((x ^ (x >> np.uint64(31))) >> np.uint64(40)).astype(np.float64) / 2.0**23 - 1.0


def generate(model, name, dims):
    x, calm = even(f"{model}/{name}", math.prod(dims)), model == "half297"
    if name == "token_embd.weight":
        x = x * (math.sqrt(3.0) * (1.0 if calm else 0.25))
    elif calm and name.startswith("blk.") and len(dims) == 2:
        x = x * (math.sqrt(3.0) * 0.5 / math.sqrt(dims[1]))
    elif len(dims) == 2:
        x = x * (math.sqrt(3.0) * 1.5 / math.sqrt(dims[1]))
    elif name.endswith("weight"):
        x = 1.0 + x * 0.2
    else:
        x = x * 0.2
    return x.astype(np.float32).reshape(dims)


def parameters(s):
    """Name in the model file, name in the checkpoint, dims."""
    v, h = s["vision"], s["hidden"]
    both = [("v.patch_embd", "model.vision_model.embeddings.patch_embedding", (v["hidden"], 588)),
            ("v.post_ln", "model.vision_model.post_layernorm", (v["hidden"],)),
            ("mm.0", "model.projector.readout.0", (h, v["hidden"])), ("mm.2", "model.projector.readout.2", (h, h))]
    for i in range(v["layers"]):
        there = f"model.vision_model.encoder.layers.{i}."
        both += [(f"v.blk.{i}.attn_{x}", f"{there}self_attn.{x}_proj", (v["hidden"], v["hidden"])) for x in "qkv"]
        both += [(f"v.blk.{i}.attn_out", f"{there}self_attn.out_proj", (v["hidden"], v["hidden"])),
                 (f"v.blk.{i}.ffn_up", f"{there}mlp.fc1", (v["ffn"], v["hidden"])),
                 (f"v.blk.{i}.ffn_down", f"{there}mlp.fc2", (v["hidden"], v["ffn"]))]
        both += [(f"v.blk.{i}.ln{x}", f"{there}layer_norm{x}", (v["hidden"],)) for x in "12"]
    weights = []
    for i in range(s["layers"]):
        there, kv = f"model.language_model.layers.{i}.", h // s["heads"] * s["kv"]
        both += [(f"blk.{i}.attn_{x}", f"{there}self_attn.{x}_proj", (n, h)) for x, n in zip("qkv", [h, kv, kv])]
        weights += [(f"blk.{i}.attn_output", f"{there}self_attn.o_proj", (h, h)),
                    (f"blk.{i}.ffn_gate", f"{there}mlp.gate_proj", (s["ffn"], h)),
                    (f"blk.{i}.ffn_up", f"{there}mlp.up_proj", (s["ffn"], h)),
                    (f"blk.{i}.ffn_down", f"{there}mlp.down_proj", (h, s["ffn"])),
                    (f"blk.{i}.attn_norm", f"{there}input_layernorm", (h,)),
                    (f"blk.{i}.ffn_norm", f"{there}post_attention_layernorm", (h,))]
    weights += [("output_norm", "model.language_model.norm", (h,)),
                ("token_embd", "model.language_model.embed_tokens", (VOCAB, h))]
    weights += [] if s["tied"] else [("output", "lm_head", (VOCAB, h))]
    biases = [(f"{a}.bias", f"{b}.bias", dims[:1]) for a, b, dims in both]
    return [(f"{a}.weight", f"{b}.weight", dims) for a, b, dims in both + weights] + biases


def tokenizer():
    """Bytes, pairs of small letters in their order as far as there is room, the chat's tokens at the end."""
    printable = [b for b in range(256) if 0x21 <= b <= 0x7E or 0xA1 <= b <= 0xAC or b >= 0xAE]
    others = [b for b in range(256) if b not in printable]
    alphabet = [chr(b) if b in printable else chr(0x100 + others.index(b)) for b in range(256)]
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    pairs = [(a, b) for a in letters for b in letters][: VOCAB - 256 - len(SPECIAL)]
    tokens = alphabet + [a + b for a, b in pairs]
    added = [dict(id=len(tokens) + i, content=t, special=True) for i, t in enumerate(SPECIAL)]
    split = dict(type="Split", pattern=dict(Regex=PATTERN), behavior="Isolated", invert=False)
    return dict(
        normalizer=dict(type="NFC"),
        pre_tokenizer=dict(type="Sequence", pretokenizers=[split, dict(type="ByteLevel", add_prefix_space=False)]),
        added_tokens=added,
        model=dict(type="BPE", vocab={t: i for i, t in enumerate(tokens)}, merges=[f"{a} {b}" for a, b in pairs]),
    )


def checkpoint(folder, key):
    s = SHAPES[key]
    folder.mkdir()
    text = dict(model_type="qwen2", hidden_size=s["hidden"], intermediate_size=s["ffn"], num_hidden_layers=s["layers"],
                num_attention_heads=s["heads"], num_key_value_heads=s["kv"], vocab_size=VOCAB, rms_norm_eps=1e-6,
                max_position_embeddings=4096, rope_theta=1e6, tie_word_embeddings=s["tied"], hidden_act="silu")
    v = s["vision"]
    vision = dict(hidden_size=v["hidden"], intermediate_size=v["ffn"], num_hidden_layers=v["layers"],
                  num_attention_heads=v["heads"], patch_size=14, layer_norm_eps=1e-6, hidden_act="gelu_pytorch_tanh")
    config = dict(model_type="video_llama_3", image_token_id=VOCAB - 3, text_config=text, vision_config=vision,
                  tie_word_embeddings=s["tied"])
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer()))
    tensors = {}
    for ours, theirs, dims in parameters(s):
        shape = (dims[0], 3, 14, 14) if ours == "v.patch_embd.weight" else dims
        tensors[theirs] = generate(key, ours, dims).reshape(shape)
    save_file(tensors, folder / "model.safetensors")


def run(binary, *args):
    done = subprocess.run([binary, "models", *map(str, args)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"models {args[0]}: exit {done.returncode}: {done.stderr}")


def plain_weights():
    """Has llama.cpp compute on the weights as the file holds them, not repacked for one processor's instructions: those
    differ from machine to machine, and its AMX products end in an illegal instruction on some virtual ones."""
    defaults = llama_cpp.llama_cpp.llama_model_default_params

    def changed():
        params = defaults()
        params.use_extra_bufts = False
        return params

    llama_cpp.llama_cpp.llama_model_default_params = changed


def answers(half):
    """llama.cpp on a half: the prompt's tokens, logits of its last positions, greedy tokens."""
    # Keys and values in f32 and no fused attention: else they pass through 16 bits.
    llama = Llama(str(half), n_ctx=128, logits_all=True, verbose=False, n_threads=1, n_threads_batch=1,
                  type_k=GGML_TYPE_F32, type_v=GGML_TYPE_F32, flash_attn=False)
    ids = llama.tokenize(PROMPT.encode(), add_bos=False, special=True)
    llama.eval(ids)
    logits = np.array(llama.scores[len(ids) - ROWS : len(ids)], dtype=np.float32)
    greedy, margins, row = [], [], logits[-1]
    for _ in range(GREEDY):
        second, first = np.sort(row)[-2:]
        margins.append(float(first - second))
        greedy.append(int(row.argmax()))
        llama.eval(greedy[-1:])
        row = np.array(llama.scores[llama.n_tokens - 1])
    return ids, logits, greedy, min(margins)


def main():
    binary, entries = sys.argv[1], {}
    plain_weights()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        asked = work / "questions.toml"
        tasks = ["recognition", "description", "cause", "prevention", "localization", "pre_crash"]
        asked.write_text("[prompts]\n" + "".join(f'{t} = "{t}?"\n' for t in tasks))
        for key in SHAPES:
            checkpoint(work / key, key)
        for key, types in CASES:
            name, whole, half = f"{key}.{types}", work / "whole.gguf", work / "half.gguf"
            run(binary, "import", "--base", work / key, "--prompts", asked, "--quantize", types, "--name", "half",
                "--licence", "none: a test", "--out", whole)
            run(binary, "export-language", whole, "--out", half)
            ids, logits, greedy, margin = answers(half)
            entries["prompt"] = np.array(ids, dtype=np.uint32)
            entries[f"{name}.sha256"] = np.frombuffer(sha256(half.read_bytes()).digest(), dtype=np.uint8)
            entries[f"{name}.logits"] = logits
            entries[f"{name}.greedy"] = np.array(greedy, dtype=np.uint32)
            print(name, half.stat().st_size, "bytes, spread", logits.std(), "least margin", margin, "greedy", greedy)
            # Quantised products are rounded otherwise in each backend: a tie would hold nothing but luck.
            assert len(set(greedy)) >= GREEDY // 3 and margin > 0.05, "a weak reference: take another prompt"
    save_file(entries, OUT)
    OUT.chmod(0o644)
    print(OUT.stat().st_size, "bytes,", len(entries["prompt"]), "tokens of the prompt")


if __name__ == "__main__":
    main()
