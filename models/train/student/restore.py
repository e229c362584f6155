"""Weights of a shipped model file back to a training's start: `restore.py student.gguf RECIPE.json OUT.pt`, then
`train.py --start-from OUT.pt`. They are those of the file, so as exact as its types (Q8_0, 16-bit, 32-bit).

Reads GGUF version 3 with the tensor types that our import writes; needs numpy and torch.
"""

import json
import struct
import sys

import numpy as np
import torch

from model import Shape, Student

F32, F16, Q8_0, BF16 = 0, 1, 8, 30
ALIGNMENT = 32
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, form):
        (value,) = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return value

    def text(self):
        n = self.take("Q")
        self.at += n
        return self.data[self.at - n : self.at].decode()

    def value(self, kind):
        if kind == 8:
            return self.text()
        if kind == 9:
            inner, n = self.take("I"), self.take("Q")
            return [self.value(inner) for _ in range(n)]
        return self.take(SCALARS[kind])


def tensors(path):
    with open(path, "rb") as f:
        r = Reader(f.read())
    assert r.data[:4] == b"GGUF", "no GGUF"
    r.at = 4
    assert r.take("I") == 3, "another version than 3"
    count, keys = r.take("Q"), r.take("Q")
    for _ in range(keys):
        r.text()
        r.value(r.take("I"))
    entries = []
    for _ in range(count):
        name, dims = r.text(), [r.take("Q") for _ in range(r.take("I"))]
        entries.append((name, dims[::-1], r.take("I"), r.take("Q")))
    start = -(-r.at // ALIGNMENT) * ALIGNMENT
    for name, dims, kind, offset in entries:
        n, at = int(np.prod(dims)), start + offset
        if kind == Q8_0:
            blocks = np.frombuffer(r.data, dtype=[("d", "<f2"), ("q", "i1", 32)], count=n // 32, offset=at)
            values = blocks["d"].astype(np.float32)[:, None] * blocks["q"]
        else:
            values = np.frombuffer(r.data, dtype={F32: "<f4", F16: "<f2"}[kind], count=n, offset=at)
        yield name, torch.from_numpy(values.astype(np.float32).reshape(dims))


LAYER = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
         "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
         "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
SEEING = {"ln1": "layer_norm1", "ln2": "layer_norm2", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
          "attn_v": "self_attn.v_proj", "attn_out": "self_attn.out_proj", "ffn_up": "mlp.fc1", "ffn_down": "mlp.fc2"}
SINGLE = {"token_embd": "model.language_model.embed_tokens", "output_norm": "model.language_model.norm",
          "v.patch_embd": "model.vision_model.embeddings.patch_embedding", "v.post_ln": "model.vision_model.post_layernorm",
          "mm.0": "model.projector.readout.0", "mm.2": "model.projector.readout.2"}


def ours(name):
    stem, part = name.rsplit(".", 1)
    if stem in SINGLE:
        return f"{SINGLE[stem]}.{part}"
    words = stem.split(".")
    if words[0] == "v":
        return f"model.vision_model.encoder.layers.{words[2]}.{SEEING[words[3]]}.{part}"
    return f"model.language_model.layers.{words[1]}.{LAYER[words[2]]}.{part}"


def main():
    path, recipe, out = sys.argv[1:]
    with open(recipe) as f:
        student = Student(Shape(**json.load(f)["shape"]))
    state = student.state_dict()
    found = {ours(name): values for name, values in tensors(path)}
    student.load_state_dict({k: found[k].reshape(v.shape) for k, v in state.items()})
    torch.save({"student": student.state_dict()}, out)
    print(f"{len(found)} tensors to {out}")


if __name__ == "__main__":
    main()
