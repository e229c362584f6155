"""The peer on the GPU: transformers' VideoLLaMA3 in bf16, the shape and the work of `gpu time`: 16 frames x 112 tokens,
six questions, plain greedy answers of the same length.

Weights are read from the same random model file where the package gguf is there; else they are random, and that is
said. Three ways are timed (six passes, one batch of six, one shared prefix expanded to six) with each attention that is
installed; the quickest is the peer. Prints one JSON object a line.
"""

import argparse
import json
import statistics
import time

import torch
from transformers import DynamicCache, VideoLlama3Config, VideoLlama3ForConditionalGeneration

FRAMES, ROWS, COLS, FRAME_TOKENS, FRAME_TEXT, QUESTION, ANSWER, TASKS = 16, 16, 28, 112, 8, 30, 57, 6
SHAPES = {
    "2b": dict(hidden=1536, ffn=8960, heads=12, kv=2, vocab=151936, tied=True),
    "7b": dict(hidden=3584, ffn=18944, heads=28, kv=4, vocab=152064, tied=False),
}


def config(shape, attention):
    vision = dict(hidden_size=1152, intermediate_size=4304, num_hidden_layers=27, num_attention_heads=16, patch_size=14,
                  hidden_act="gelu_pytorch_tanh", layer_norm_eps=1e-6)
    text = dict(model_type="qwen2", hidden_size=shape["hidden"], intermediate_size=shape["ffn"], num_hidden_layers=28,
                num_attention_heads=shape["heads"], num_key_value_heads=shape["kv"], vocab_size=shape["vocab"],
                max_position_embeddings=32768, rope_theta=1e6, rms_norm_eps=1e-6, tie_word_embeddings=shape["tied"])
    return VideoLlama3Config(vision_config=vision, text_config=text, image_token_id=151655, video_token_id=151656,
                             tie_word_embeddings=shape["tied"], attn_implementation=attention)


def weights_of(path, model):
    """Copies the tensors of a model file into the model; True when all were found."""
    try:
        from gguf import GGUFReader, dequantize
    except ImportError:
        return False
    names = {"token_embd": "model.language_model.embed_tokens", "output_norm": "model.language_model.norm",
             "output": "lm_head", "v.post_ln": "model.vision_model.post_layernorm",
             "v.patch_embd": "model.vision_model.embeddings.patch_embedding", "mm.0": "model.projector.readout.0",
             "mm.2": "model.projector.readout.2"}
    text = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
            "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
            "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
    vision = {"ln1": "layer_norm1", "ln2": "layer_norm2", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
              "attn_v": "self_attn.v_proj", "attn_out": "self_attn.out_proj", "ffn_up": "mlp.fc1", "ffn_down": "mlp.fc2"}
    state = model.state_dict()
    for tensor in GGUFReader(path).tensors:
        base, kind = tensor.name.rsplit(".", 1)
        if base in names:
            name = names[base]
        elif base.startswith("v.blk."):
            _, _, layer, part = base.split(".")
            name = f"model.vision_model.encoder.layers.{layer}.{vision[part]}"
        else:
            _, layer, part = base.split(".")
            name = f"model.language_model.layers.{layer}.{text[part]}"
        target = state[f"{name}.{kind}"]
        values = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
        target.copy_(values.reshape(target.shape))
    return True


def timed(work, rounds=7, warm=2):
    spent = []
    for i in range(rounds):
        torch.cuda.synchronize()
        begun = time.perf_counter()
        work()
        torch.cuda.synchronize()
        if i >= warm:
            spent.append(time.perf_counter() - begun)
    return statistics.median(spent) * 1e3


class Peer:
    def __init__(self, model, shape):
        self.model, self.vocab = model, shape["vocab"]
        g = torch.Generator().manual_seed(5)
        draw = lambda n: torch.randint(0, 150000, (n,), generator=g)
        text = draw(FRAME_TEXT)
        image = torch.full((FRAME_TOKENS,), 151656)
        self.prefix = torch.cat([torch.cat((text, image)) for _ in range(FRAMES)])[None].cuda()
        self.questions = torch.stack([draw(QUESTION) for _ in range(TASKS)]).cuda()
        self.pixels = torch.randn(FRAMES * ROWS * COLS, 588, generator=g).to(torch.bfloat16).cuda()
        self.grid = torch.tensor([[FRAMES, ROWS, COLS]]).cuda()
        self.merge = torch.tensor([2]).cuda()

    def video(self, ids):
        b = ids.shape[0]
        return dict(input_ids=ids, pixel_values_videos=self.pixels.repeat(b, 1), video_grid_thw=self.grid.repeat(b, 1),
                    video_merge_sizes=self.merge.repeat(b))

    def six_passes(self, tokens):
        for q in self.questions:
            ids = torch.cat((self.prefix, q[None]), 1)
            self.model.generate(**self.video(ids), max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False)

    def batch(self, tokens):
        ids = torch.cat((self.prefix.expand(TASKS, -1), self.questions), 1)
        self.model.generate(**self.video(ids), max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False)

    def shared(self, tokens):
        out = self.model(**self.video(self.prefix), use_cache=True, past_key_values=DynamicCache(), logits_to_keep=1)
        cache = out.past_key_values
        cache.batch_repeat_interleave(TASKS)
        out = self.model(input_ids=self.questions, past_key_values=cache, use_cache=True, logits_to_keep=1)
        for _ in range(tokens - 1):
            ids = out.logits[:, -1].argmax(-1, keepdim=True)
            out = self.model(input_ids=ids, past_key_values=cache, use_cache=True)
        out.logits[:, -1].argmax(-1).tolist()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="2b")
    parser.add_argument("--weights", help="the random model file of `gpu time`")
    args = parser.parse_args()
    shape = SHAPES[args.shape]
    torch.set_grad_enabled(False)
    best = {}
    same = None
    for attention in ("sdpa", "flash_attention_2"):
        try:
            with torch.device("cuda"):
                torch.set_default_dtype(torch.bfloat16)
                model = VideoLlama3ForConditionalGeneration(config(shape, attention)).eval()
                torch.set_default_dtype(torch.float32)
        except (ImportError, ValueError) as error:
            print(json.dumps({"peer": attention, "absent": str(error).splitlines()[0][:120]}), flush=True)
            continue
        if args.weights and same is not False:
            same = weights_of(args.weights, model)
        torch.cuda.reset_peak_memory_stats()
        peer = Peer(model, shape)
        for way in ("shared", "batch", "six_passes"):
            work = getattr(peer, way)
            try:
                label, report = timed(lambda: work(1), 5, 2), timed(lambda: work(ANSWER), 4 if way == "six_passes" else 5, 1)
            except Exception as error:  # a way that this version cannot go is named, not hidden
                print(json.dumps({"peer": attention, "way": way, "failed": repr(error)[:200]}), flush=True)
                continue
            line = {"peer": attention, "way": way, "label_ms": round(label, 2), "report_ms": round(report, 2),
                    "peak_gb": round(torch.cuda.max_memory_allocated() / 1e9, 2), "same_weights": bool(same)}
            print(json.dumps(line), flush=True)
            for key in ("label_ms", "report_ms"):
                best[key] = min(best.get(key, 1e9), line[key])
        del model, peer
        torch.cuda.empty_cache()
    print(json.dumps({"peer": "best of transformers", "shape": args.shape, "same_weights": bool(same)} | best), flush=True)


if __name__ == "__main__":
    main()
