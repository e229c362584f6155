"""Trains the small student on simulated clips.

Resumable: `--out` keeps one checkpoint (weights, optimiser, place in the stream of clips, best metrics), written aside
and renamed. The n-th clip of a run is a function of the recipe and n alone, so an interrupted run and a whole one see
the same clips in the same order. Metrics are those of greedy decoding: an answer is exact when each of its tokens is
the most probable one given the right tokens before it.

Needs torch, numpy, tokenizers, safetensors. One GPU or the CPU.
"""

import argparse
import json
import math
import os
import time

import torch
import torch.nn.functional as F

import clips as source
from model import Shape, Student
from pack import collate


def learning_rate(step, recipe):
    """Linear warm-up, then half a cosine to a tenth."""
    if step < recipe["warmup"]:
        return recipe["lr"] * (step + 1) / recipe["warmup"]
    done = min(1.0, (step - recipe["warmup"]) / max(1, recipe["steps"] - recipe["warmup"]))
    return recipe["lr"] * (0.1 + 0.45 * (1 + math.cos(math.pi * done)))


def optimiser(student, recipe):
    """Weight decay on matrices alone."""
    decayed = [p for p in student.parameters() if p.ndim >= 2]
    plain = [p for p in student.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": recipe["decay"]}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe["lr"], betas=(0.9, 0.98), eps=1e-8)


def save(path, state):
    torch.save(state, path + ".part")
    os.replace(path + ".part", path)


def to_device(batch, device):
    return {k: v.to(device, non_blocking=True) for k, v in batch.items()}


def forward(student, batch, frames, device):
    kind = "cuda" if device.type == "cuda" else "cpu"
    with torch.autocast(kind, dtype=torch.bfloat16, enabled=device.type == "cuda"):
        logits, targets = student(
            frames, batch["ids"], batch["image_slots"], batch["positions"], batch["mask"], batch["targets"]
        )
    return logits.float(), targets


@torch.no_grad()
def evaluate(student, clips, recipe, device):
    """Exact answers per task and mean loss, over the validation clips."""
    student.eval()
    exact, seen, loss_sum, weight_sum = {}, {}, 0.0, 0.0
    for batch, frames in clips:
        batch, frames = to_device(batch, device), frames.to(device)
        logits, targets = forward(student, batch, frames, device)
        at = batch["targets"] >= 0
        weights = batch["weights"][at]
        loss_sum += (F.cross_entropy(logits, targets, reduction="none") * weights).sum().item()
        weight_sum += weights.sum().item()
        right = torch.zeros_like(batch["targets"], dtype=torch.bool)
        right[at] = logits.argmax(-1) == targets
        for number, name in enumerate(recipe["tasks"]):
            of_task = batch["task"] == number
            wrong = (of_task & ~right).any(1)
            asked = of_task.any(1)
            exact[name] = exact.get(name, 0) + (asked & ~wrong).sum().item()
            seen[name] = seen.get(name, 0) + asked.sum().item()
    student.train()
    return {"loss": loss_sum / max(weight_sum, 1e-9)} | {k: exact[k] / max(1, seen[k]) for k in exact}


def run(args, recipe):
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(recipe["seed"])
    if device.type == "cpu":
        torch.set_num_threads(os.cpu_count())
    student = Student(Shape(**recipe["shape"])).to(device)
    optim = optimiser(student, recipe)
    place = os.path.join(args.out, "checkpoint.pt")
    step, log = 0, []
    if os.path.exists(place):
        state = torch.load(place, map_location=device, weights_only=True)
        assert state["recipe"] == json.dumps(recipe, sort_keys=True), "the checkpoint is of another recipe"
        student.load_state_dict(state["student"])
        optim.load_state_dict(state["optim"])
        step, log = state["step"], json.loads(state["log"])
        print(f"going on at step {step}", flush=True)
    forward_student = torch.compile(student, dynamic=False) if device.type == "cuda" and not args.eager else student
    begun, spent_from = time.monotonic(), step
    validation = source.validation(recipe, args)
    stream = source.training(recipe, args, first_clip=step * recipe["batch"])
    while step < recipe["steps"] and time.monotonic() - begun < args.minutes * 60:
        batch, frames = next(stream)
        batch, frames = to_device(batch, device), frames.to(device)
        for group in optim.param_groups:
            group["lr"] = learning_rate(step, recipe)
        logits, targets = forward(forward_student, batch, frames, device)
        weights = batch["weights"][batch["targets"] >= 0]
        loss = (F.cross_entropy(logits, targets, reduction="none") * weights).sum() / weights.sum()
        optim.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optim.step()
        step += 1
        if step % args.report == 0:
            rate = (step - spent_from) * recipe["batch"] / (time.monotonic() - begun)
            print(f"step {step} loss {loss.item():.4f} norm {norm.item():.2f} clips/s {rate:.1f}", flush=True)
        if step % args.evaluate == 0:
            log.append({"step": step, "clips": step * recipe["batch"]} | evaluate(student, validation, recipe, device))
            print(json.dumps(log[-1]), flush=True)
            keep(place, student, optim, step, log, recipe)
    log.append({"step": step, "clips": step * recipe["batch"]} | evaluate(student, validation, recipe, device))
    print(json.dumps(log[-1]), flush=True)
    keep(place, student, optim, step, log, recipe)
    return student, log


def keep(place, student, optim, step, log, recipe):
    save(place, {
        "student": student.state_dict(),
        "optim": optim.state_dict(),
        "step": step,
        "log": json.dumps(log),
        "recipe": json.dumps(recipe, sort_keys=True),
    })


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", required=True, help="JSON file: shape, window, tasks, seeds, steps")
    parser.add_argument("--simulator", required=True, help="the firmware-agent program that makes the clips")
    parser.add_argument("--tokenizer", required=True, help="tokenizer.json")
    parser.add_argument("--out", required=True, help="folder of the checkpoint and of the finished model")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after so long; the same command goes on")
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 1), help="simulators side by side")
    parser.add_argument("--report", type=int, default=50)
    parser.add_argument("--evaluate", type=int, default=1000)
    parser.add_argument("--eager", action="store_true", help="no compilation on the GPU")
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    with open(args.recipe) as f:
        recipe = json.load(f)
    student, log = run(args, recipe)
    source.export(student, log, recipe, args)


if __name__ == "__main__":
    main()
