"""Makes fixtures/exact.safetensors and fixtures/adapters.safetensors.

What it does: builds small VideoLLaMA3 models in transformers, whose weights come from an integer hash of the tensor's
name and the index (tests/it/tiny.rs computes the same), runs them, and stores inputs and outputs. Weights and frames
are not stored: both sides compute them. The fixtures README says what each entry is.

Made with: torch 2.15, transformers 5.23, torchvision 0.29 (the reference's own processor needs it), peft 0.21,
safetensors 0.8, numpy 2.4, Pillow 12.3. Not Pillow 13: it runs the vertical pass first where the height shrinks more,
and so moves bytes by up to 16 grey levels on noise; the models were trained, and torchvision still resizes, in the
older order.
Run: python make_fixtures.py (one core, under a minute). Regenerating must change nothing but the last bits of floats.
"""

import math
import os
import re

import numpy as np
import PIL
import torch
from peft import LoraConfig, get_peft_model
from PIL import Image
from safetensors.torch import save_file
from transformers import Qwen2Config, VideoLlama3Config, VideoLlama3ForConditionalGeneration, VideoLlama3VideoProcessor

assert int(PIL.__version__.split(".")[0]) < 13, "see the header"
torch.set_num_threads(1)
torch.manual_seed(0)
OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fixtures")
GOLDEN = np.uint64(0x9E3779B97F4A7C15)

SHAPES = {
    # tied head, grouped queries, head width 32; vision head width 24.
    "tiny": dict(
        vision=dict(hidden=96, ffn=256, layers=3, heads=4),
        text=dict(hidden=128, ffn=352, layers=3, heads=4, kv=2, vocab=512, tied=True),
    ),
    # own head, one key head for four; 256 wide, for quantised blocks of 256.
    "wide": dict(
        vision=dict(hidden=64, ffn=128, layers=2, heads=2),
        text=dict(hidden=256, ffn=512, layers=2, heads=4, kv=1, vocab=384, tied=False),
    ),
}
IMAGE_TOKEN = 300


def mix(x):
    """splitmix64's finaliser, element by element, wrapping."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def hashes(name, n):
    """n 64-bit numbers of a name: FNV-1a of the name, plus (i + 1) times the golden ratio, mixed."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = ((seed ^ byte) * 0x100000001B3) % 2**64
    with np.errstate(over="ignore"):
        return mix(np.uint64(seed) + (np.arange(n, dtype=np.uint64) + np.uint64(1)) * GOLDEN)


def even(name, n):
    """n numbers in [-1, 1), multiples of 2^-23: exact in f32 and f64."""
    return ((hashes(name, n) >> np.uint64(40)).astype(np.float64) - 2.0**23) / 2.0**23


def generate(model, name, shape):
    """The tensor of a model. Larger than usual starts, so that the model does not repeat one token."""
    x = even(f"{model}/{name}", math.prod(shape))
    if name == "token_embd.weight":
        x = x * (math.sqrt(3.0) * 0.25)
    elif len(shape) == 2:
        x = x * (math.sqrt(3.0) * 1.5 / math.sqrt(shape[1]))
    elif name.endswith("weight"):
        x = 1.0 + x * 0.2
    else:
        x = x * 0.2
    return x.astype(np.float32).reshape(shape)


def gguf_name(name):
    """The name in the model file of a Hugging Face parameter."""
    for pattern, target in [
        (r"model\.vision_model\.embeddings\.patch_embedding\.", "v.patch_embd."),
        (r"model\.vision_model\.post_layernorm\.", "v.post_ln."),
        (r"model\.vision_model\.encoder\.layers\.(\d+)\.", r"v.blk.\1."),
        (r"model\.projector\.readout\.", "mm."),
        (r"model\.language_model\.embed_tokens\.", "token_embd."),
        (r"model\.language_model\.norm\.", "output_norm."),
        (r"model\.language_model\.layers\.(\d+)\.", r"blk.\1."),
        (r"^lm_head\.", "output."),
        (r"^(v\.blk.*)layer_norm(\d)", r"\1ln\2"),
        (r"^(v\.blk.*)mlp\.fc1", r"\1ffn_up"),
        (r"^(v\.blk.*)mlp\.fc2", r"\1ffn_down"),
        (r"^(v\.blk.*)self_attn\.out_proj", r"\1attn_out"),
        (r"self_attn\.([qkv])_proj", r"attn_\1"),
        (r"self_attn\.o_proj", "attn_output"),
        (r"mlp\.(gate|up|down)_proj", r"ffn_\1"),
        (r"input_layernorm", "attn_norm"),
        (r"post_attention_layernorm", "ffn_norm"),
    ]:
        name = re.sub(pattern, target, name)
    return name


def build(key):
    shape = SHAPES[key]
    v, t = shape["vision"], shape["text"]
    config = VideoLlama3Config(
        vision_config=dict(
            hidden_size=v["hidden"],
            intermediate_size=v["ffn"],
            num_hidden_layers=v["layers"],
            num_attention_heads=v["heads"],
            patch_size=14,
            hidden_act="gelu_pytorch_tanh",
            layer_norm_eps=1e-6,
        ),
        text_config=Qwen2Config(
            hidden_size=t["hidden"],
            intermediate_size=t["ffn"],
            num_hidden_layers=t["layers"],
            num_attention_heads=t["heads"],
            num_key_value_heads=t["kv"],
            vocab_size=t["vocab"],
            max_position_embeddings=4096,
            rope_parameters=dict(rope_type="default", rope_theta=1e6),
            rms_norm_eps=1e-6,
            tie_word_embeddings=t["tied"],
        ).to_dict(),
        tie_word_embeddings=t["tied"],
        image_token_id=IMAGE_TOKEN - 1,
        video_token_id=IMAGE_TOKEN,
    )
    config._attn_implementation = "sdpa"
    model = VideoLlama3ForConditionalGeneration(config).eval()
    assert model.config.text_config.rope_parameters["rope_theta"] == 1e6
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = generate(key, gguf_name(name), tuple(parameter.flatten(1).shape) if parameter.ndim > 1 else tuple(parameter.shape))
            parameter.copy_(torch.from_numpy(values).reshape(parameter.shape))
    tied = model.lm_head.weight.data_ptr() == model.model.language_model.embed_tokens.weight.data_ptr()
    assert tied == t["tied"]
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    return model


def picture(name, height, width):
    return (hashes(name, height * width * 3) >> np.uint64(56)).astype(np.uint8).reshape(height, width, 3)


def nudge(frame, row, col, count):
    """Moves the first `count` values of a token's square by one grey level, row by row."""
    y, x = row * 28, col * 28
    square = frame[y : y + 28, x : x + 28].reshape(-1)
    part = square[:count]
    square[:count] = np.where(part < 255, part + 1, part - 1)
    frame[y : y + 28, x : x + 28] = square.reshape(28, 28, 3)


def drive():
    """Six frames of 3 x 6 tokens that meet each branch of the pruning rule."""
    first = picture("frame0", 84, 168)
    second = first.copy()
    nudge(second, 0, 5, 117)  # a difference of 234 / 2352 = 0.0995: dropped
    nudge(second, 1, 0, 118)  # 0.1003: kept
    third = picture("frame2", 84, 168)
    fourth = third.copy()  # nothing changed: the first token stays
    fifth = fourth.copy()
    fifth[:, 84:] = picture("frame4", 84, 168)[:, 84:]
    sixth = fifth.copy()
    sixth[56:, 140:] = picture("frame5", 84, 168)[56:, 140:]
    return np.stack([first, second, third, fourth, fifth, sixth])


def process(frames, **more):
    processor = VideoLlama3VideoProcessor(size={"shortest_edge": 28 * 28 * 4, "longest_edge": 28 * 28 * 4096})
    return processor(videos=[torch.from_numpy(frames).permute(0, 3, 1, 2)], return_tensors="pt", **more)


def suffix(i, length, vocab):
    tokens = hashes(f"suffix{i}", length) % np.uint64(vocab)
    return [int(t) + (1 if int(t) == IMAGE_TOKEN else 0) - (2 if int(t) == IMAGE_TOKEN - 1 else 0) for t in tokens]


def prefix(mask, per):
    ids = []
    for i in range(len(mask) // per):
        ids += [10, 11, 12 + i] + [IMAGE_TOKEN] * int(mask[i * per : (i + 1) * per].sum())
    return ids


def run(model, ids, video, tokens=0):
    inputs = dict(
        input_ids=torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        pixel_values_videos=video["pixel_values_videos"],
        video_grid_thw=video["video_grid_thw"],
        video_merge_sizes=video["video_merge_sizes"],
        video_compression_mask=video["video_compression_mask"],
    )
    with torch.no_grad():
        out = model(**inputs)
        generated = None
        if tokens:
            generated = model.generate(**inputs, max_new_tokens=tokens, do_sample=False)[0, len(ids) :]
    return out, generated


def model_entries(key, frames, lengths, tokens):
    model = build(key)
    vocab = SHAPES[key]["text"]["vocab"]
    video = process(frames, do_resize=False)
    mask = video["video_compression_mask"]
    start = prefix(mask, (frames.shape[1] // 28) * (frames.shape[2] // 28))
    entries = {f"{key}.mask": mask.to(torch.uint8), f"{key}.prefix": torch.tensor(start, dtype=torch.uint32)}
    for i, length in enumerate(lengths):
        ids = suffix(i, length, vocab)
        out, generated = run(model, start + ids, video, tokens)
        entries[f"{key}.suffix{i}"] = torch.tensor(ids, dtype=torch.uint32)
        entries[f"{key}.logits{i}"] = out.logits[0, len(start) :].contiguous()
        entries[f"{key}.greedy{i}"] = generated.to(torch.uint32)
        entries[f"{key}.video_hidden"] = out.video_hidden_states.contiguous()
        varied = len(set(generated.tolist()))
        print(key, i, "distinct", varied, "logit spread", float(out.logits.std()))
        assert varied >= tokens // 3, "the model repeats itself: a weak reference"
    print(key, "kept", int(mask.sum()), "of", len(mask), "mask", mask.to(torch.uint8).tolist())
    return entries


def far_entries():
    """Text alone at positions as far as a long video reaches."""
    ids = [int(t) for t in hashes("far", 2604) % np.uint64(IMAGE_TOKEN - 1)]
    with torch.no_grad():
        logits = build("tiny")(input_ids=torch.tensor([ids])).logits[0, -4:]
    return {"tiny.far": logits.contiguous()}


def resize_entries():
    entries = {}
    for (h, w), (to_h, to_w) in [((33, 47), (28, 56)), ((90, 160), (84, 168)), ((61, 35), (112, 56)), ((201, 300), (56, 84))]:
        image = Image.fromarray(picture(f"resize{h}x{w}", h, w)).resize((to_w, to_h), Image.BICUBIC)
        entries[f"resize.{h}x{w}.{to_h}x{to_w}"] = torch.from_numpy(np.array(image))
    # The reference's own processor from raw pixels: torchvision's resize, normalisation and order of patches.
    out = process(np.stack([picture("processor", 61, 90)] * 2))
    assert out["video_grid_thw"].tolist() == [[2, 4, 6]], out["video_grid_thw"]
    levels = torch.round((out["pixel_values_videos"][:24] * 0.5 + 0.5) * 255).to(torch.uint8)
    entries["processor.levels"] = levels.contiguous()
    return entries


TARGETS = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
RANK, ALPHA = 8, 16


def adapter(model, dora):
    """Adds an adapter whose matrices come from the hash of `BASE.lora_a` and `BASE.lora_b`; returns magnitudes."""
    model = get_peft_model(model, LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=TARGETS, use_dora=dora))
    magnitudes = {}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            found = re.match(r"base_model\.model\.(.*)\.lora_(A|B|magnitude_vector)\.default", name)
            if not found:
                continue
            base = gguf_name(found[1] + ".").rstrip(".")
            if found[2] == "magnitude_vector":
                parameter.mul_(torch.from_numpy(1.0 + 0.1 * even(f"{base}.magnitude", parameter.numel())).float())
                magnitudes[f"dora.{base}.magnitude"] = parameter.detach().clone().reshape(-1)
                continue
            scale = 1.0 / math.sqrt(parameter.shape[1]) if found[2] == "A" else 0.3 / math.sqrt(RANK)
            values = even(f"{base}.lora_{found[2].lower()}", parameter.numel()) * (math.sqrt(3.0) * scale)
            parameter.copy_(torch.from_numpy(values.astype(np.float32)).reshape(parameter.shape))
    if dora:
        assert magnitudes
    return model, magnitudes


def adapter_entries(frames):
    video = process(frames, do_resize=False)
    start = prefix(video["video_compression_mask"], 18)
    ids = start + suffix(0, 4, 512)
    base, _ = run(build("tiny"), ids, video)
    entries = {}
    for kind in ["lora", "dora"]:
        # Magnitudes start at the norm of base + update, which peft takes when the adapter is made (update zero).
        model, magnitudes = adapter(build("tiny"), kind == "dora")
        entries.update(magnitudes)
        adapted, _ = run(model, ids, video)
        merged, _ = run(model.merge_and_unload().eval(), ids, video)
        apart = float((adapted.logits - merged.logits).abs().max())
        moved = float((base.logits - merged.logits).abs().max())
        print(kind, "merged against adapted", apart, "against base", moved, "spread", float(merged.logits.std()))
        assert moved > 1.0 and apart < 1e-3
        entries[f"{kind}.logits"] = merged.logits[0, len(start) :].contiguous()
    return entries


def main():
    frames = drive()
    exact = model_entries("tiny", frames, [4, 7, 3, 9, 5, 12], 24)
    small = np.stack([picture(f"wide{i}", 56, 84) for i in range(3)])
    exact.update(model_entries("wide", small, [9, 5], 16))
    exact.update(far_entries())
    exact.update(resize_entries())
    save_file(exact, os.path.join(OUT, "exact.safetensors"))
    save_file(adapter_entries(frames), os.path.join(OUT, "adapters.safetensors"))
    for name in ["exact", "adapters"]:
        print(name, os.path.getsize(os.path.join(OUT, f"{name}.safetensors")), "bytes")


if __name__ == "__main__":
    main()
