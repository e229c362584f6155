"""Holds model.py to the Hugging Face port: the same random weights, the same logits (f32, one unbranched prompt)."""

import torch
from transformers import VideoLlama3Config, VideoLlama3ForConditionalGeneration

from model import Shape, Student


def main():
    torch.manual_seed(1)
    shape = Shape(vision_hidden=64, vision_ffn=96, vision_layers=2, hidden=64, ffn=96, layers=2, vocab=200)
    ours = Student(shape).eval()
    with torch.no_grad():
        for p in ours.parameters():
            if p.ndim == 1:
                p.add_(0.1 * torch.randn_like(p))
        ours.model.language_model.embed_tokens.weight.mul_(20)
    config = VideoLlama3Config(**{k: v for k, v in shape.config(199, {}).items() if k not in ("student_shape", "model_type")})
    theirs = VideoLlama3ForConditionalGeneration(config).eval()
    missing, unexpected = theirs.load_state_dict(ours.state_dict(), strict=False)
    assert not unexpected and all("lm_head" in m for m in missing), (missing, unexpected)
    theirs.tie_weights()

    frames = torch.randint(0, 256, (1, 3, 56, 84, 3), dtype=torch.uint8)
    rows, cols, tokens = 4, 6, 6
    patches = frames.float().div(127.5).sub(1.0)[0].permute(0, 3, 1, 2)
    patches = patches.reshape(3, 3, rows // 2, 2, 14, cols // 2, 2, 14).permute(0, 2, 5, 3, 6, 1, 4, 7).reshape(-1, 588)
    ids, slots = [], []
    for f in range(3):
        ids += [5, 6 + f] + [199] * tokens + [9]
        slots += [-1, -1] + list(range(f * tokens, (f + 1) * tokens)) + [-1]
    ids, slots = torch.tensor([ids]), torch.tensor([slots])
    n = ids.shape[1]
    with torch.no_grad():
        places = torch.arange(n)[None]
        mine = ours(frames, ids, slots, places, torch.zeros_like(ids), places)[0][0]
        other = theirs(
            input_ids=ids,
            pixel_values_videos=patches,
            video_grid_thw=torch.tensor([[3, rows, cols]]),
            video_merge_sizes=torch.tensor([2]),
        ).logits[0]
    worst = (mine - other).abs().max().item()
    print(f"largest difference of logits {worst:.2e}, largest logit {other.abs().max().item():.2f}")
    assert worst < 2e-4 * other.abs().max().item()


if __name__ == "__main__":
    main()
