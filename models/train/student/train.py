"""Trains the small student on simulated clips.

Resumable: `--out` keeps one checkpoint (weights, optimiser, step, log), written aside and renamed. Batch n of a run is a
function of the recipe and n alone: which clips of the pool (it grows as the recipe says), which windows, which changes. So
an interrupted run and a whole one see the same stream. Answers' figures while training are those under the right tokens
before each one: exact answers are then exact under greedy decoding too; the times' overlap is not quite what decoding gives
and stands in the final metrics, from the model file itself (`score.py`).

Needs torch, numpy, tokenizers, safetensors. A GPU, or a processor (with AMX it computes in bfloat16).
"""

import argparse
import json
import math
import os
import shutil
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import clips as source
import store
from hints import HEADS, Hints
from model import Shape, Student
from tokenizer import wording

# May differ between the runs that go on from one checkpoint: they say how long, not what.
LENGTH = ("steps", "decay_steps", "pool")


def learning_rate(step, recipe):
    """Linear warm-up, level, and at the end straight down to a fiftieth: so a run can be made longer before that."""
    if step < recipe["warmup"]:
        return recipe["lr"] * (step + 1) / recipe["warmup"]
    left = (recipe["steps"] - step) / recipe["decay_steps"]
    return recipe["lr"] * min(1.0, max(0.02, left))


class Optimiser:
    """Muon (orthogonalised momentum; K. Jordan, 2024) for the matrices of the layers, AdamW for embeddings, heads, norms and
    biases. Muon's steps are as large as AdamW's would be (Liu et al., 2025), so both follow one rate."""

    def __init__(self, parts, recipe):
        named = [(n, p) for part in parts for n, p in part.named_parameters()]
        layered = [p for n, p in named if p.ndim == 2 and ".layers." in n]
        chosen = {id(p) for p in layered} if recipe["muon"] else set()
        rest = [p for _, p in named if id(p) not in chosen]
        groups = [{"params": [p for p in rest if p.ndim >= 2], "weight_decay": recipe["decay"]},
                  {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0}]
        self.all = [torch.optim.AdamW(groups, lr=recipe["lr"], betas=(0.9, 0.98), eps=1e-8, fused=True)]
        if chosen:
            self.all.append(torch.optim.Muon(layered, lr=recipe["lr"], weight_decay=recipe["decay"], momentum=0.95,
                                             adjust_lr_fn="match_rms_adamw"))

    def rate(self, lr):
        for optim in self.all:
            for group in optim.param_groups:
                group["lr"] = lr

    def zero_grad(self):
        for optim in self.all:
            optim.zero_grad(set_to_none=True)

    def step(self):
        for optim in self.all:
            optim.step()

    def state_dict(self):
        return [optim.state_dict() for optim in self.all]

    def load_state_dict(self, states):
        for optim, state in zip(self.all, states):
            optim.load_state_dict(state)


class Whole(nn.Module):
    """Student and hints in one, for one compiled step."""

    def __init__(self, student, hints):
        super().__init__()
        self.student, self.hints = student, hints

    def forward(self, packed, frames, told):
        logits, hidden, patches = self.student(
            frames, packed["ids"], packed["image_slots"], packed["positions"], packed["branch"], packed["at"])
        logits = logits.float()
        each = F.cross_entropy(logits.flatten(0, 1), packed["targets"].flatten(), reduction="none")
        words = (each * packed["weights"].flatten()).sum() / packed["weights"].sum()
        asked = self.hints(hidden, patches, packed["frame_ends"], told)
        return words, asked, logits.argmax(-1)


class Pool(torch.utils.data.Dataset):
    """Batches by their number."""

    def __init__(self, recipe, args, first):
        self.recipe, self.args, self.first = recipe, args, first
        self.writer, self.codes, self.rounds, self.starts = None, wording(args.repository)[0], [], [0]

    def __len__(self):
        return self.recipe["steps"] - self.first

    def clips(self, rounds):
        """How many clips the first rounds have."""
        while len(self.rounds) < rounds:
            folder = store.ensure(self.args.simulator, self.recipe, self.args.store, "train", len(self.rounds))
            self.rounds.append(store.Round(folder))
            self.starts.append(self.starts[-1] + len(self.rounds[-1]))
        return self.starts[rounds]

    def __getitem__(self, index):
        recipe, step = self.recipe, self.first + index
        self.writer = self.writer or source.Writer(self.args.tokenizer)
        count = self.clips(pool_at(step, recipe))
        rng = np.random.default_rng((recipe["seed"], step))
        with_telemetry = bool(rng.random() >= recipe["telemetry_dropout"])
        made = []
        for n in rng.integers(count, size=recipe["batch"]):
            at = int(np.searchsorted(self.starts, n, side="right")) - 1
            made.append(source.sample(self.writer, self.rounds[at], int(n) - self.starts[at], recipe, rng,
                                      with_telemetry, self.codes))
        return source.batch_of(made, recipe, with_telemetry)


def pool_at(step, recipe):
    """How many rounds are drawn from at a step: `[[from step, rounds], ...]` with a straight line between."""
    at = recipe["pool"]
    return int(np.interp(step, [s for s, _ in at], [r for _, r in at]))


def validation(recipe, args):
    """Batches of the validation split: each clip with and without telemetry."""
    held = store.Round(store.ensure(args.simulator, recipe, args.store, "validation", 0))
    writer, codes, out = source.Writer(args.tokenizer), wording(args.repository)[0], []
    size = recipe["batch"]
    for begin in range(0, min(len(held), args.validate) // size * size, size):
        for with_telemetry in (True, False):
            made = [source.sample(writer, held, i, recipe, None, with_telemetry, codes) for i in range(begin, begin + size)]
            out.append((with_telemetry, source.batch_of(made, recipe, with_telemetry)))
    return out


def to_device(batch, device):
    packed, frames, told = batch
    move = lambda d: {k: v.to(device, non_blocking=True) for k, v in d.items()}
    return move(packed), frames.to(device, non_blocking=True), move(told)


def half(device):
    """bfloat16 where products in it are fast: a GPU, a processor with AMX (without it they take 80 times as long as f32)."""
    kind = "cuda" if device.type == "cuda" else "cpu"
    return torch.autocast(kind, dtype=torch.bfloat16, enabled=kind == "cuda" or torch.cpu._is_amx_tile_supported())


@torch.no_grad()
def evaluate(whole, batches, recipe, device):
    """Exact answers per task with and without telemetry, losses, and how many frames' states are right."""
    out, count, words_sum = {}, {True: 0, False: 0}, 0.0
    exact = {True: np.zeros(len(recipe["tasks"])), False: np.zeros(len(recipe["tasks"]))}
    sums = {name: 0.0 for name in HEADS}
    for with_telemetry, batch in batches:
        packed, frames, told = to_device(batch, device)
        with half(device):
            words, asked, best = whole(packed, frames, told)
        words_sum += words.item()
        for name in asked:
            sums[name] += asked[name].item()
        wrong = (best != packed["targets"]) & (packed["weights"] > 0)
        for number in range(len(recipe["tasks"])):
            of_task = packed["task"] == number
            exact[with_telemetry][number] += (~(wrong & of_task).any(1)).sum().item()
        count[with_telemetry] += len(frames)
    out = {"words": words_sum / len(batches)} | {f"hint_{k}": v / len(batches) for k, v in sums.items()}
    for which, name in ((True, "telemetry"), (False, "video")):
        out[name] = {t: round(exact[which][i] / max(1, count[which]), 4) for i, t in enumerate(recipe["tasks"])}
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in out.items()}


def same_recipe(a, b):
    strip = lambda r: {k: v for k, v in r.items() if k not in LENGTH}
    return strip(a) == strip(b)


def run(args, recipe):
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(recipe["seed"])
    codes = wording(args.repository)[0]
    shape = Shape(**recipe["shape"])
    student, hints = Student(shape).to(device), Hints(shape, codes).to(device)
    optim = Optimiser([student, hints], recipe)
    place = os.path.join(args.out, "checkpoint.pt")
    step, log = 0, []
    if os.path.exists(place):
        state = torch.load(place, map_location=device, weights_only=True)
        assert same_recipe(json.loads(state["recipe"]), recipe), "the checkpoint is of another recipe"
        student.load_state_dict(state["student"])
        hints.load_state_dict(state["hints"])
        optim.load_state_dict(state["optim"])
        step, log = state["step"], json.loads(state["log"])
        print(f"going on at step {step}", flush=True)
    elif args.start_from:
        state = torch.load(args.start_from, map_location=device, weights_only=True)
        student.load_state_dict(state["student"])
        if "hints" in state:
            hints.load_state_dict(state["hints"])
        print(f"begins with the weights of {args.start_from}", flush=True)
    whole = Whole(student, hints)
    if not args.eager:
        # Layer by layer: one small graph serves all layers of a half, and is made in seconds.
        for layer in [*student.model.vision_model.encoder.layers, *student.model.language_model.layers]:
            layer.compile(dynamic=False)
    held = validation(recipe, args)
    loader = torch.utils.data.DataLoader(Pool(recipe, args, step), batch_size=None, shuffle=False, num_workers=args.workers,
                                         prefetch_factor=4 if args.workers else None)
    begun, since, seen = time.monotonic(), time.monotonic(), 0
    mean = None
    for batch in loader:
        packed, frames, told = to_device(batch, device)
        optim.rate(learning_rate(step, recipe))
        with half(device):
            words, asked, _ = whole(packed, frames, told)
        loss = words + recipe["hints"] * sum(HEADS[name] * asked[name] for name in HEADS)
        optim.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(student.parameters()) + list(hints.parameters()), 1.0)
        optim.step()
        step += 1
        seen += len(frames)
        mean = words.item() if mean is None else 0.95 * mean + 0.05 * words.item()
        if step % args.report == 0:
            told_now = " ".join(f"{k} {v.item():.3f}" for k, v in asked.items())
            rate, since, seen = seen / (time.monotonic() - since), time.monotonic(), 0
            print(f"step {step} words {mean:.4f} {told_now} clips/s {rate:.1f}", flush=True)
        over = time.monotonic() - begun > args.minutes * 60
        if step % args.evaluate == 0 or step == recipe["steps"] or over:
            log.append({"step": step, "clips": step * recipe["batch"]} | evaluate(whole, held, recipe, device))
            print(json.dumps(log[-1]), flush=True)
            keep(place, student, hints, optim, step, log, recipe)
            since = time.monotonic()
        elif step % args.keep == 0:
            keep(place, student, hints, optim, step, log, recipe)
        if over:
            break
    return student, log


def keep(place, student, hints, optim, step, log, recipe):
    torch.save({
        "student": student.state_dict(),
        "hints": hints.state_dict(),
        "optim": optim.state_dict(),
        "step": step,
        "log": json.dumps(log),
        "recipe": json.dumps(recipe, sort_keys=True),
    }, place + ".part")
    os.replace(place + ".part", place)


def export(student, log, recipe, args):
    """The student as a checkpoint that `firmware-agent models import` reads, without the hints."""
    from safetensors.torch import save_file

    out = os.path.join(args.out, "checkpoint")
    os.makedirs(out, exist_ok=True)
    writer = source.Writer(args.tokenizer)
    state = {k: v.detach().float().cpu().contiguous() for k, v in student.state_dict().items()}
    save_file(state, os.path.join(out, "model.safetensors"), metadata={"format": "pt"})
    tokens = {"bos_token_id": writer.start, "eos_token_id": writer.end}

    def put(name, value):
        with open(os.path.join(out, name), "w") as f:
            json.dump(value, f, indent=1)

    put("config.json", student.shape.config(writer.image, tokens))
    # The least of a frame is what the window has: the agent would make small pictures larger to reach more.
    per_frame = (recipe["height"] // 28) * (recipe["width"] // 28)
    put("preprocessor_config.json", {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "min_tokens": per_frame,
                                     "max_tokens": 10240, "patch_size": 14, "merge_size": 2})
    shutil.copy(args.tokenizer, os.path.join(out, "tokenizer.json"))
    put("training.json", {"recipe": recipe, "log": log})
    codes, words = wording(args.repository)
    sizes = [len(codes[k]) for k in ("description", "cause", "prevention")]
    at = [0, sizes[0], sizes[0] + sizes[1], sum(sizes)]
    book = {k: words[a:b] for k, a, b in zip(("description", "cause", "prevention"), at, at[1:])}
    put("questions.json", {"prompts": source.QUESTIONS, "codebook": book})
    print(f"checkpoint in {out}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", required=True, help="JSON file: shape, window, tasks, seeds, steps")
    parser.add_argument("--simulator", required=True, help="the firmware-agent program that makes the clips")
    parser.add_argument("--repository", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../.."))
    parser.add_argument("--tokenizer", required=True, help="tokenizer.json")
    parser.add_argument("--store", required=True, help="folder of the clips: made when first needed, kept")
    parser.add_argument("--out", required=True, help="folder of the checkpoint and of the finished model")
    parser.add_argument("--start-from", help="begin with the weights of another run's checkpoint.pt")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after so long; the same command goes on")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--workers", type=int, default=1, help="processes that prepare batches")
    parser.add_argument("--validate", type=int, default=512, help="clips of the validation split that are looked at")
    parser.add_argument("--report", type=int, default=25)
    parser.add_argument("--keep", type=int, default=100)
    parser.add_argument("--evaluate", type=int, default=500)
    parser.add_argument("--eager", action="store_true", help="no compilation")
    parser.add_argument("--export-only", action="store_true", help="write the checkpoint for the import, train nothing")
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    with open(args.recipe) as f:
        recipe = json.load(f)
    torch.set_num_threads(args.threads)
    if args.export_only:
        state = torch.load(os.path.join(args.out, "checkpoint.pt"), map_location="cpu", weights_only=True)
        student = Student(Shape(**recipe["shape"]))
        student.load_state_dict(state["student"])
        export(student, json.loads(state["log"]), recipe, args)
        return
    student, log = run(args, recipe)
    export(student, log, recipe, args)


if __name__ == "__main__":
    main()
