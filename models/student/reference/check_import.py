"""Holds `firmware-agent models import` against PyTorch, PEFT and llama.cpp.

    python3 models/student/reference/check_import.py target/release/firmware-agent

Makes a small random VideoLLaMA3 with transformers, saves it as transformers and torch.save do, adapts it with PEFT
(LoRA, DoRA, rank-stabilised), lets PEFT merge, and compares every tensor of the imported file with the merged one.
Then writes the language half alone and compares llama.cpp's logits with those of transformers. Needs torch,
transformers, peft, safetensors, tokenizers, gguf; llama-cpp-python where present (said where not). Prints one line a
check; exits 1 when one fails.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from gguf import GGUFReader, dequantize
from peft import LoraConfig, get_peft_model
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import VideoLlama3Config, VideoLlama3ForConditionalGeneration

PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
           r"|\s+(?!\S)|\s+")
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|image_pad|>", "<|video_pad|>"]
LANGUAGE = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
failures = 0


def check(what, good, figure):
    global failures
    failures += not good
    print(f"{'ok  ' if good else 'FAIL'} {what}: {figure}")


def make_tokenizer(folder):
    tok = Tokenizer(models.BPE())
    tok.normalizer = normalizers.NFC()
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=600 - len(SPECIAL), show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tok.train_from_iterator(["the ego car hits a truck at the junction, " * 3, "a pedestrian crosses the road " * 3,
                             "keep a safe distance and slow down in rain"], trainer)
    tok.add_special_tokens(SPECIAL)
    tok.save(str(folder / "tokenizer.json"))
    return tok


def make_model(vocabulary, image):
    torch.manual_seed(5)
    vision = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2, patch_size=14,
                  hidden_act="gelu_pytorch_tanh", layer_norm_eps=1e-6)
    text = dict(model_type="qwen2", hidden_size=256, intermediate_size=512, num_hidden_layers=2,
                num_attention_heads=4, num_key_value_heads=2, vocab_size=vocabulary, max_position_embeddings=4096,
                rope_theta=1e6, rms_norm_eps=1e-6, tie_word_embeddings=False)
    config = VideoLlama3Config(vision_config=vision, text_config=text, image_token_id=image,
                               video_token_id=image + 1, tie_word_embeddings=False)
    model = VideoLlama3ForConditionalGeneration(config).eval()
    with torch.no_grad():
        for _, p in model.named_parameters():
            p.copy_(torch.randn_like(p) * (0.1 if p.ndim == 1 else 1.5 / p[0].numel() ** 0.5) + (p.ndim == 1) * 0.5)
    return model


def original(name):
    """The name that VideoLLaMA3's own code gives a tensor of the port."""
    name = name.replace("model.vision_model.", "model.vision_encoder.").replace("model.projector.", "model.mm_projector.")
    return name.replace("model.language_model.", "model.")


def ours(name):
    """The name in the model file."""
    fixed = {"lm_head.weight": "output.weight", "model.language_model.norm.weight": "output_norm.weight",
             "model.language_model.embed_tokens.weight": "token_embd.weight"}
    if name in fixed:
        return fixed[name]
    if name.startswith("model.projector"):
        return name.replace("model.projector.readout.", "mm.")
    pairs = [("model.vision_model.encoder.layers.", "v.blk."), ("model.vision_model.embeddings.patch_embedding", "v.patch_embd"),
             ("model.vision_model.post_layernorm", "v.post_ln"), ("model.language_model.layers.", "blk."),
             ("self_attn.out_proj", "attn_out"), ("self_attn.o_proj", "attn_output"),
             ("post_attention_layernorm", "ffn_norm"), ("input_layernorm", "attn_norm"), ("layer_norm", "ln"),
             ("mlp.fc1", "ffn_up"), ("mlp.fc2", "ffn_down")]
    for a, b in pairs:
        name = name.replace(a, b)
    name = re.sub(r"self_attn\.([qkv])_proj", r"attn_\1", name)
    return re.sub(r"mlp\.(gate|up|down)_proj", r"ffn_\1", name)


def run(binary, *args):
    done = subprocess.run([binary, "models", *map(str, args)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"models {args[0]}: exit {done.returncode}: {done.stderr}")
    return json.loads(done.stdout)


def worst_difference(path, state):
    tensors = {t.name: t.data for t in GGUFReader(path).tensors}
    names = {ours(k): v for k, v in state.items()}
    assert set(tensors) == set(names), set(tensors) ^ set(names)
    return max(float(np.abs(tensors[k].reshape(-1) - v.float().numpy().reshape(-1)).max()) for k, v in names.items())


def with_adapter(binary, work, model_of, base, asked, label, **settings):
    model = get_peft_model(model_of(), LoraConfig(lora_alpha=16, target_modules=LANGUAGE, **settings))
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_B" in name or "magnitude" in name:
                p.add_(0.05 * torch.randn_like(p))
    folder = work / label
    model.save_pretrained(folder)
    merged = model.merge_and_unload().state_dict()
    out = work / f"{label}.gguf"
    said = run(binary, "import", "--base", base, "--adapter", folder, "--prompts", asked, "--quantize", "f32", "--out", out)
    check(f"{label}, {said['merged']} matrices merged", (d := worst_difference(out, merged)) < 2e-6, f"{d:.2e}")


def language_half(binary, work, base, asked, model, tok):
    try:
        from llama_cpp import Llama
    except ImportError:
        print("skip llama.cpp: llama-cpp-python is not installed")
        return
    ids = tok.encode("the ego car hits a truck at 3.8 seconds").ids
    with torch.no_grad():
        wanted = model(input_ids=torch.tensor([ids])).logits[0].numpy()
    for types in ["f32", "q8_0"]:
        out, half = work / f"whole.{types}.gguf", work / f"half.{types}.gguf"
        run(binary, "import", "--base", base, "--prompts", asked, "--quantize", types, "--out", out)
        run(binary, "export-language", out, "--out", half)
        llama = Llama(str(half), n_ctx=64, logits_all=True, verbose=False, n_threads=2)
        said = llama.tokenize(b"the ego car hits a truck at 3.8 seconds", add_bos=False)
        check(f"llama.cpp's tokens ({types})", said == ids, f"{len(said)} tokens")
        llama.eval(ids)
        got = np.array(llama.scores[:len(ids)])
        if types == "f32":
            worst, same = float(np.abs(got - wanted).max()), float((got.argmax(1) == wanted.argmax(1)).mean())
            check("llama.cpp's logits (f32)", worst < 2e-3 and same == 1.0,
                  f"worst {worst:.2e}, cosine {cosine(got, wanted):.7f}, same first {same:.2f}")
            continue
        # What storing costs is the import's; what llama.cpp adds (8-bit activations) is not, so it is bounded loosely.
        kept = with_stored_weights(model, out, ids)
        check(f"stored weights ({types}) in f32 against the model's own", cosine(kept, wanted) > 0.9999,
              f"cosine {cosine(kept, wanted):.7f}")
        check(f"llama.cpp's logits ({types}) against the stored weights in f32", cosine(got, kept) > 0.9995,
              f"cosine {cosine(got, kept):.7f}; against the model's own {cosine(got, wanted):.7f}")


def cosine(a, b):
    return float((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()))


def with_stored_weights(model, path, ids):
    """Logits of transformers in f32 on the weights as the file holds them."""
    tensors = {t.name: t for t in GGUFReader(path).tensors}
    state = {}
    for name, was in model.state_dict().items():
        t = tensors[ours(name)]
        state[name] = torch.from_numpy(dequantize(t.data, t.tensor_type).reshape(was.shape).astype(np.float32).copy())
    own = {k: v.clone() for k, v in model.state_dict().items()}
    model.load_state_dict(state)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0].numpy()
    model.load_state_dict(own)
    return logits


def main():
    binary = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        base = work / "base"
        base.mkdir()
        tok = make_tokenizer(base)
        model_of = lambda: make_model(tok.get_vocab_size(), tok.token_to_id("<|image_pad|>"))
        model = model_of()
        model.save_pretrained(base, max_shard_size="1MB")
        asked = work / "q.toml"
        tasks = ["recognition", "description", "cause", "prevention", "localization", "pre_crash"]
        asked.write_text("[prompts]\n" + "".join(f'{t} = "{t}?"\n' for t in tasks))
        out = work / "base.gguf"
        run(binary, "import", "--base", base, "--prompts", asked, "--quantize", "f32", "--out", out)
        check("sharded safetensors of transformers", (d := worst_difference(out, model.state_dict())) == 0, d)
        check("verify", run(binary, "verify", out)["parameters"] == sum(p.numel() for p in model.parameters()), "parameters")

        saved = work / "saved"
        saved.mkdir()
        for name in ["config.json", "tokenizer.json"]:
            (saved / name).write_text((base / name).read_text())
        torch.save({original(k): v for k, v in model.state_dict().items()}, saved / "pytorch_model.bin")
        run(binary, "import", "--base", saved, "--prompts", asked, "--quantize", "f32", "--out", out)
        check("torch.save, original names", (d := worst_difference(out, model.state_dict())) == 0, d)
        torch.save({original(k): v.bfloat16() for k, v in model.state_dict().items()}, saved / "pytorch_model.bin")
        run(binary, "import", "--base", saved, "--prompts", asked, "--quantize", "f32", "--out", out)
        half = {k: v.bfloat16() for k, v in model.state_dict().items()}
        check("torch.save in bfloat16", (d := worst_difference(out, half)) == 0, d)

        for label, settings in [("LoRA", dict(r=8)), ("DoRA", dict(r=8, use_dora=True)),
                                ("rsLoRA", dict(r=8, use_rslora=True)),
                                ("patterns", dict(r=8, rank_pattern={"v_proj": 4}, alpha_pattern={"v_proj": 32}))]:
            with_adapter(binary, work, model_of, base, asked, label, **settings)
        language_half(binary, work, base, asked, model, tok)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
