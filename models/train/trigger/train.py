"""Trains the trigger detector; resumes from its checkpoint.

    train.py --recipe recipe.json --train DIR --validation DIR --real real.npz --out DIR [--threads 2]

DIR of training and validation: `firmware-agent simulate --batch`, split by seed. Writes checkpoint.pt (every 250 steps),
log.jsonl, and when all steps are done trigger.onnx. Needs torch, numpy, opencv, onnx, onnxruntime.
"""

import argparse
import json
import math
import os
import time

import torch
import torch.nn.functional as F

from data import Batches, Real, Simulated
from export import export
from model import CLASSES, Detector, boxes_of, grid
from score import evaluate

SAVE_EVERY = 250


def giou(a, b):
    """Intersection over union, and the generalised one."""
    low, high = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    both = (high - low).clamp(min=0).prod(1)
    union = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - both
    hull = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(1)
    iou = both / union.clamp(min=1e-6)
    return iou, iou - (hull - union) / hull.clamp(min=1e-6)


def loss_of(raw, rows, cells, weights):
    kind = rows[..., 4]
    hit = kind >= 0
    count = hit.sum().clamp(min=1)
    target = torch.zeros_like(kind)
    boxes, truth, classes = boxes_of(raw, cells)[hit], rows[hit][:, :4], kind[hit].long()
    iou, general = giou(boxes, truth)
    # Objectness says how well the box fits: suppression then keeps the best-fitting one.
    target[hit] = iou.detach().clamp(0.05, 1)
    logits = raw[..., 4]
    focus = (target - logits.sigmoid()).abs() ** 2
    obj = F.binary_cross_entropy_with_logits(logits, target, reduction="none") * focus
    obj = obj[kind != -2].sum() / count
    named = F.one_hot(classes, len(CLASSES)).float()
    cls = (F.binary_cross_entropy_with_logits(raw[hit][:, 5:], named, reduction="none").sum(1) * weights[classes]).sum() / count
    box = (1 - general).sum() / count
    return 2.0 * obj + 0.5 * cls + 2.0 * box, obj, cls, box


def rate(step, r):
    warm = min(1.0, (step + 1) / r["warmup"])
    return r["lr"] * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / r["steps"])))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("recipe", "train", "validation", "real", "out"):
        p.add_argument(f"--{name}", required=True)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--workers", type=int, default=1, help="processes that prepare batches")
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    with open(a.recipe, encoding="utf-8") as f:
        r = json.load(f)
    os.makedirs(a.out, exist_ok=True)
    torch.manual_seed(r["seed"])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = Detector(**r["model"]).to(device, memory_format=torch.channels_last)
    averaged = Detector(**r["model"]).to(device).eval()
    averaged.load_state_dict(model.state_dict())
    flat = [q for q in model.parameters() if q.ndim < 2]
    deep = [q for q in model.parameters() if q.ndim >= 2]
    optimizer = torch.optim.AdamW([{"params": deep, "weight_decay": r["decay"]}, {"params": flat, "weight_decay": 0.0}])
    first, spent, path = 0, 0.0, os.path.join(a.out, "checkpoint.pt")
    if os.path.exists(path):
        state = torch.load(path, map_location=device, weights_only=False)
        model.load_state_dict(state["model"])
        averaged.load_state_dict(state["averaged"])
        optimizer.load_state_dict(state["optimizer"])
        first, spent = state["step"], state["seconds"]
    simulated, validation = Simulated(a.train), Simulated(a.validation)
    batches = Batches(r, simulated, Real(a.real, "train"), first)
    loader = torch.utils.data.DataLoader(batches, batch_size=None, num_workers=a.workers, prefetch_factor=4)
    cells, weights = grid(device), torch.tensor(r["class_weights"], device=device)
    print(f"{len(simulated)} simulated and {len(batches.real)} real frames, from step {first}", flush=True)
    log = open(os.path.join(a.out, "log.jsonl"), "a", encoding="utf-8")
    begin, sums = time.time(), torch.zeros(4, device=device)
    for step, (images, rows) in enumerate(loader, first):
        for group in optimizer.param_groups:
            group["lr"] = rate(step, r)
        model.train()
        images, rows = images.to(device, non_blocking=True), rows.to(device, non_blocking=True)
        x = (images.permute(0, 3, 1, 2).float() / 255).contiguous(memory_format=torch.channels_last)
        losses = loss_of(model(x), rows, cells, weights)
        optimizer.zero_grad(set_to_none=True)
        losses[0].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        keep = min(r["average"], (1 + step) / (10 + step))
        with torch.no_grad():
            for mine, own in zip(averaged.state_dict().values(), model.state_dict().values()):
                mine.lerp_(own, 1 - keep) if mine.is_floating_point() else mine.copy_(own)
        sums += torch.stack([v.detach() for v in losses])
        done, seconds = step + 1, spent + time.time() - begin
        if done % 50 == 0:
            row = {"step": done, "seconds": round(seconds), **dict(zip(("loss", "obj", "cls", "box"), (sums / 50).tolist()))}
            sums.zero_()
            print(json.dumps(row), file=log, flush=True)
        if done % SAVE_EVERY == 0 or done == r["steps"]:
            state = {"model": model.state_dict(), "averaged": averaged.state_dict(), "optimizer": optimizer.state_dict(),
                     "step": done, "seconds": seconds, "recipe": r}
            torch.save(state, path + ".new")
            os.replace(path + ".new", path)
        if done % r["evaluate_every"] == 0:
            seen = evaluate(averaged, validation, 300)
            row = {"step": done, "validation_mean_ap50": seen["mean_ap50"], "any_class": seen["any class"]}
            print(json.dumps(row), file=log, flush=True)
    print(f"onnxruntime within {export(averaged.cpu().eval(), os.path.join(a.out, 'trigger.onnx')):.1e} of torch")


if __name__ == "__main__":
    main()
