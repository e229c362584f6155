"""The trigger detector: depthwise-separable blocks, three levels, an anchor-free head with YOLOX's output.

The layers are those that the agent's own kernels run at full speed (models/src/net): dense 3x3 only in the stem,
then depthwise and pointwise convolutions with ReLU, nearest enlargement by two, additions. No channel shuffles.
"""

import torch
from torch import nn

CLASSES = ["person", "bicycle", "motorcycle", "car", "bus", "truck"]
STRIDES = [8, 16, 32]
WIDTH, HEIGHT = 320, 192


def conv(a, b, k=1, s=1, groups=1, relu=True):
    layers = [nn.Conv2d(a, b, k, s, k // 2, groups=groups, bias=False), nn.BatchNorm2d(b, momentum=0.03)]
    return nn.Sequential(*layers, *([nn.ReLU(inplace=True)] if relu else []))


def separable(a, b, k=3, s=1):
    """Depthwise without an activation of its own, then pointwise."""
    return nn.Sequential(conv(a, a, k, s, a, relu=False), conv(a, b))


class Block(nn.Module):
    """A separable block with the input added to what it gives."""

    def __init__(self, c, k=3):
        super().__init__()
        self.body = separable(c, c, k)

    def forward(self, x):
        return x + self.body(x)


class Detector(nn.Module):
    def __init__(self, widths=(16, 32, 64, 128, 192), depths=(1, 2, 4, 2), neck=64, tower=2):
        super().__init__()
        w, d = widths, depths
        blocks = lambda c, n, k: [Block(c, k) for _ in range(n)]
        self.stem = nn.Sequential(conv(3, w[0], 3, 2), separable(w[0], w[1], 3, 2), *blocks(w[1], d[0], 3))
        self.c3 = nn.Sequential(separable(w[1], w[2], 3, 2), *blocks(w[2], d[1], 3))
        self.c4 = nn.Sequential(separable(w[2], w[3], 3, 2), *blocks(w[3], d[2], 5))
        self.c5 = nn.Sequential(separable(w[3], w[4], 3, 2), *blocks(w[4], d[3], 5))
        self.lateral = nn.ModuleList(conv(c, neck, relu=False) for c in w[2:])
        self.mix = nn.ModuleList(separable(neck, neck, 3) for _ in range(3))
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.tower = nn.ModuleList(nn.Sequential(*[separable(neck, neck, 5) for _ in range(tower)]) for _ in STRIDES)
        self.box = nn.ModuleList(nn.Conv2d(neck, 4, 1) for _ in STRIDES)
        self.score = nn.ModuleList(nn.Conv2d(neck, 1 + len(CLASSES), 1) for _ in STRIDES)
        for box, score in zip(self.box, self.score):
            nn.init.zeros_(box.weight)
            box.bias.data = torch.tensor([0.5, 0.5, 0.7, 0.7])
            nn.init.normal_(score.weight, std=0.01)
            nn.init.constant_(score.bias, -4.0)
            score.bias.data[1:] = -1.5
        self.exporting = False

    def forward(self, x):
        """Images (b x 3 x 192 x 320, 0 to 1) to b x points x 11: x, y and log sizes in strides, then logits
        (probabilities when exporting) of objectness and classes."""
        c3 = self.c3(self.stem(x))
        c4 = self.c4(c3)
        c5 = self.c5(c4)
        p5 = self.mix[2](self.lateral[2](c5))
        p4 = self.mix[1](self.lateral[1](c4) + self.up(p5))
        p3 = self.mix[0](self.lateral[0](c3) + self.up(p4))
        out = []
        # Numbers, not shapes of tensors: the exported graph then has no arithmetic on shapes.
        count = 1 if self.exporting else len(x)
        for p, stride, tower, box, score in zip((p3, p4, p5), STRIDES, self.tower, self.box, self.score):
            t = tower(p)
            s = score(t)
            cells = (HEIGHT // stride) * (WIDTH // stride)
            out.append(torch.cat((box(t), s.sigmoid() if self.exporting else s), 1).reshape(count, 5 + len(CLASSES), cells))
        return torch.cat(out, 2).transpose(1, 2)


def grid(device="cpu"):
    """Column, row and stride of each point, in output order: points x 3."""
    cells = []
    for s in STRIDES:
        y, x = torch.meshgrid(torch.arange(HEIGHT // s), torch.arange(WIDTH // s), indexing="ij")
        cells.append(torch.stack((x.flatten(), y.flatten(), torch.full((x.numel(),), s)), 1))
    return torch.cat(cells).float().to(device)


def boxes_of(raw, cells):
    """Left, top, right, bottom in pixels of the input of a raw output (... x points x 11)."""
    centre = (raw[..., :2] + cells[:, :2]) * cells[:, 2:]
    half = raw[..., 2:4].clamp(max=5).exp() * cells[:, 2:] / 2
    return torch.cat((centre - half, centre + half), -1)
