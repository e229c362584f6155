"""What the student is asked in training beside its answers, so that it learns to see sooner.

Linear heads on the vision tower's patches (which road user covers a patch, and how far it is) and on the language half's
hidden state after each frame (nothing, danger, crash or after; which danger; who hit whom; speed). The simulator knows all
of it. The heads are dropped at the end: the model file has none of them.
"""

import torch
import torch.nn.functional as F
from torch import nn

from clips import STATES
from store import KINDS

# Far things fill most of a picture with nothing: a patch without a road user counts a tenth.
NOTHING = 0.1
HEADS = {"kind": 1.0, "far": 0.3, "state": 1.0, "danger": 0.5, "what": 0.5, "speed": 0.2}


class Hints(nn.Module):
    def __init__(self, shape, codes):
        super().__init__()
        self.kind = nn.Linear(shape.vision_hidden, 1 + len(KINDS))
        self.far = nn.Linear(shape.vision_hidden, 1)
        self.state = nn.Linear(shape.hidden, len(STATES))
        self.danger = nn.Linear(shape.hidden, len(codes["cause"]))
        self.what = nn.Linear(shape.hidden, len(codes["description"]))
        self.speed = nn.Linear(shape.hidden, 1)

    def forward(self, hidden, patches, frame_ends, told):
        """Their losses by name."""
        at = torch.gather(hidden, 1, frame_ends[..., None].expand(-1, -1, hidden.shape[-1]))
        seen = told["kind"]
        weight = torch.where(seen > 0, 1.0, NOTHING)
        by_patch = F.cross_entropy(self.kind(patches).float().flatten(0, 2), seen.flatten(), reduction="none")
        there = (seen > 0).float()
        # Logarithm of the distance: a metre matters near by and not far away.
        far = self.far(patches).float()[..., 0] - torch.log2(told["far"] / 10 + 1)
        of = lambda head, what: F.cross_entropy(head(at).float().flatten(0, 1), told[what].flatten())
        return {
            "kind": (by_patch * weight.flatten()).sum() / weight.sum(),
            "far": (F.smooth_l1_loss(far, torch.zeros_like(far), reduction="none") * there).sum() / (there.sum() + 1),
            "state": of(self.state, "state"),
            "danger": of(self.danger, "danger"),
            "what": of(self.what, "what"),
            "speed": F.smooth_l1_loss(self.speed(at).float()[..., 0], told["speed"]),
        }
