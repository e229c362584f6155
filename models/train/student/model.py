"""The student's architecture for training: VideoLLaMA3's (SigLIP-shaped vision, two-layer projector, Qwen2 language
half), written for fixed frame sizes and for many answers on one prefix.

Parameter names are those of the Hugging Face port, so that a checkpoint of this module is what `models import` reads.
`check_against_transformers.py` holds it to that port.
"""

import math
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass(frozen=True)
class Shape:
    """Sizes of one student. `heads * head size == hidden` in both halves."""

    vision_hidden: int = 256
    vision_ffn: int = 768
    vision_layers: int = 6
    vision_heads: int = 4
    hidden: int = 256
    ffn: int = 768
    layers: int = 8
    heads: int = 4
    kv_heads: int = 2
    vocab: int = 2048
    patch: int = 14
    merge: int = 2
    rope_theta: float = 1e6
    vision_rope_theta: float = 1e4
    rms_eps: float = 1e-6
    ln_eps: float = 1e-6

    def config(self, image_token: int, tokens: dict) -> dict:
        """`config.json` in the form of the Hugging Face port."""
        return {
            "architectures": ["VideoLlama3ForConditionalGeneration"],
            "model_type": "video_llama_3",
            "image_token_id": image_token,
            "video_token_id": image_token,
            "tie_word_embeddings": True,
            "vision_config": {
                "model_type": "video_llama_3_vision",
                "hidden_size": self.vision_hidden,
                "intermediate_size": self.vision_ffn,
                "num_hidden_layers": self.vision_layers,
                "num_attention_heads": self.vision_heads,
                "num_channels": 3,
                "patch_size": self.patch,
                "hidden_act": "gelu_pytorch_tanh",
                "layer_norm_eps": self.ln_eps,
            },
            "text_config": {
                "model_type": "qwen2",
                "hidden_size": self.hidden,
                "intermediate_size": self.ffn,
                "num_hidden_layers": self.layers,
                "num_attention_heads": self.heads,
                "num_key_value_heads": self.kv_heads,
                "vocab_size": self.vocab,
                "max_position_embeddings": 4096,
                "rope_theta": self.rope_theta,
                "rope_parameters": {"rope_type": "default", "rope_theta": self.rope_theta},
                "rms_norm_eps": self.rms_eps,
                "tie_word_embeddings": True,
                **tokens,
            },
            "student_shape": asdict(self),
        }


def rotate_half(x):
    a, b = x.chunk(2, dim=-1)
    return torch.cat((-b, a), dim=-1)


def apply_rope(x, cos, sin):
    return x * cos + rotate_half(x) * sin


def attend(q, k, v, bias):
    """Attention with as many query heads for a key head as there are; `bias` is added to the scores (0 or far below).

    On the processor three matrix products and a softmax (AMX, and one kernel for what lies between when compiled) are
    twice as fast, backward pass included, as PyTorch's fused kernel; elsewhere that one is taken.
    """
    if q.device.type != "cpu":
        # Keys for every query head: the fused kernel that takes a mask knows no grouped heads.
        wide = lambda x: x.repeat_interleave(q.shape[1] // x.shape[1], 1) if x.shape[1] < q.shape[1] else x
        return F.scaled_dot_product_attention(q, wide(k), wide(v), attn_mask=bias)
    b, heads, n, d = q.shape
    of_key = k.shape[1]
    rows = (q * d**-0.5).reshape(b, of_key, heads // of_key * n, d)
    scores = (rows @ k.transpose(-1, -2)).view(b, heads, n, n)
    scores = scores if bias is None else scores + bias
    shares = torch.softmax(scores, -1).to(v.dtype).view(b, of_key, heads // of_key * n, n)
    return (shares @ v).view(b, heads, n, d)


class VisionAttention(nn.Module):
    def __init__(self, s: Shape):
        super().__init__()
        h = s.vision_hidden
        self.heads = s.vision_heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(h, h) for _ in range(4))

    def forward(self, x, cos, sin):
        frames, n, h = x.shape
        split = lambda y: y.view(frames, n, self.heads, -1).transpose(1, 2)
        q, k, v = split(self.q_proj(x)), split(self.k_proj(x)), split(self.v_proj(x))
        y = attend(apply_rope(q, cos, sin), apply_rope(k, cos, sin), v, None)
        return self.out_proj(y.transpose(1, 2).reshape(frames, n, h))


class VisionMlp(nn.Module):
    def __init__(self, s: Shape):
        super().__init__()
        self.fc1 = nn.Linear(s.vision_hidden, s.vision_ffn)
        self.fc2 = nn.Linear(s.vision_ffn, s.vision_hidden)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class VisionLayer(nn.Module):
    def __init__(self, s: Shape):
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(s.vision_hidden, eps=s.ln_eps)
        self.layer_norm2 = nn.LayerNorm(s.vision_hidden, eps=s.ln_eps)
        self.self_attn = VisionAttention(s)
        self.mlp = VisionMlp(s)

    def forward(self, x, cos, sin):
        x = x + self.self_attn(self.layer_norm1(x), cos, sin)
        return x + self.mlp(self.layer_norm2(x))


class Vision(nn.Module):
    """Patches of frames of one size to one vector per merged block."""

    def __init__(self, s: Shape):
        super().__init__()
        self.s = s
        self.embeddings = nn.Module()
        self.embeddings.patch_embedding = nn.Conv2d(3, s.vision_hidden, s.patch, s.patch)
        self.encoder = nn.Module()
        self.encoder.layers = nn.ModuleList(VisionLayer(s) for _ in range(s.vision_layers))
        self.post_layernorm = nn.LayerNorm(s.vision_hidden, eps=s.ln_eps)

    def angles(self, rows, cols, device):
        """Angles of the 2-D rotary embedding in block order: row frequencies, then column frequencies."""
        m, half = self.s.merge, self.s.vision_hidden // self.s.vision_heads // 2
        inv = 1.0 / self.s.vision_rope_theta ** (torch.arange(0, half, 2, device=device).float() / half)
        y = torch.arange(rows, device=device).view(rows, 1).expand(rows, cols)
        x = torch.arange(cols, device=device).view(1, cols).expand(rows, cols)
        block = lambda p: p.reshape(rows // m, m, cols // m, m).permute(0, 2, 1, 3).reshape(-1).float()
        angle = torch.cat((block(y)[:, None] * inv, block(x)[:, None] * inv), dim=-1)
        return torch.cat((angle, angle), dim=-1)

    def forward(self, pixels):
        """`pixels`: frames x 3 x height x width, normalised; gives frames x tokens x hidden, and before they are merged
        frames x patches x hidden, in merge order (four patches of a token after another)."""
        s = self.s
        f, _, height, width = pixels.shape
        rows, cols, m, p = height // s.patch, width // s.patch, s.merge, s.patch
        # The convolution as a product: patches in merge order, values in the order of its weight.
        x = pixels.view(f, 3, rows // m, m, p, cols // m, m, p).permute(0, 2, 5, 3, 6, 1, 4, 7)
        conv = self.embeddings.patch_embedding
        x = F.linear(x.reshape(f, rows * cols, 3 * p * p), conv.weight.flatten(1), conv.bias)
        angle = self.angles(rows, cols, x.device)
        cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
        for layer in self.encoder.layers:
            x = layer(x, cos, sin)
        x = self.post_layernorm(x)
        return x.view(f, rows * cols // (m * m), m * m, -1).mean(2), x


class RmsNorm(nn.Module):
    def __init__(self, n, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n))
        self.eps = eps

    def forward(self, x):
        y = x.float()
        y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * y.to(x.dtype)


class TextAttention(nn.Module):
    def __init__(self, s: Shape):
        super().__init__()
        d = s.hidden // s.heads
        self.heads, self.kv_heads = s.heads, s.kv_heads
        self.q_proj = nn.Linear(s.hidden, s.heads * d)
        self.k_proj = nn.Linear(s.hidden, s.kv_heads * d)
        self.v_proj = nn.Linear(s.hidden, s.kv_heads * d)
        self.o_proj = nn.Linear(s.heads * d, s.hidden, bias=False)

    def forward(self, x, cos, sin, mask):
        b, n, _ = x.shape
        q = self.q_proj(x).view(b, n, self.heads, -1).transpose(1, 2)
        k = self.k_proj(x).view(b, n, self.kv_heads, -1).transpose(1, 2)
        v = self.v_proj(x).view(b, n, self.kv_heads, -1).transpose(1, 2)
        q, k = apply_rope(q, cos, sin), apply_rope(k, cos, sin)
        return self.o_proj(attend(q, k, v, mask).transpose(1, 2).reshape(b, n, -1))


class TextMlp(nn.Module):
    def __init__(self, s: Shape):
        super().__init__()
        self.gate_proj = nn.Linear(s.hidden, s.ffn, bias=False)
        self.up_proj = nn.Linear(s.hidden, s.ffn, bias=False)
        self.down_proj = nn.Linear(s.ffn, s.hidden, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class TextLayer(nn.Module):
    def __init__(self, s: Shape):
        super().__init__()
        self.input_layernorm = RmsNorm(s.hidden, s.rms_eps)
        self.post_attention_layernorm = RmsNorm(s.hidden, s.rms_eps)
        self.self_attn = TextAttention(s)
        self.mlp = TextMlp(s)

    def forward(self, x, cos, sin, mask):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, mask)
        return x + self.mlp(self.post_attention_layernorm(x))


class Text(nn.Module):
    def __init__(self, s: Shape):
        super().__init__()
        self.s = s
        self.embed_tokens = nn.Embedding(s.vocab, s.hidden)
        self.layers = nn.ModuleList(TextLayer(s) for _ in range(s.layers))
        self.norm = RmsNorm(s.hidden, s.rms_eps)

    def forward(self, x, positions, mask):
        """`x`: batch x n x hidden; `positions`: batch x n; `mask`: batch x 1 x n x n, added to the scores."""
        d = self.s.hidden // self.s.heads
        inv = 1.0 / self.s.rope_theta ** (torch.arange(0, d, 2, device=x.device).float() / d)
        angle = positions[..., None].float() * inv
        angle = torch.cat((angle, angle), dim=-1)[:, None]
        cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
        for layer in self.layers:
            x = layer(x, cos, sin, mask)
        return self.norm(x)


class Projector(nn.Module):
    def __init__(self, s: Shape):
        super().__init__()
        self.readout = nn.Sequential(nn.Linear(s.vision_hidden, s.hidden), nn.GELU(), nn.Linear(s.hidden, s.hidden))

    def forward(self, x):
        return self.readout(x)


class Student(nn.Module):
    """The whole student; the head is the embedding."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        self.model = nn.Module()
        self.model.vision_model = Vision(shape)
        self.model.projector = Projector(shape)
        self.model.language_model = Text(shape)
        self.apply(self._init)
        # Residual branches start small, as in GPT-2 (Radford et al. 2019), by the depth of each half.
        for name, p in self.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight", "out_proj.weight", "fc2.weight")):
                depth = shape.vision_layers if "vision_model" in name else shape.layers
                with torch.no_grad():
                    p.div_(math.sqrt(2 * depth))

    @staticmethod
    def _init(m):
        if isinstance(m, nn.Conv2d):
            nn.init.trunc_normal_(m.weight, std=1.0 / math.sqrt(m.weight[0].numel()))
            nn.init.zeros_(m.bias)
        elif isinstance(m, nn.Linear):
            nn.init.trunc_normal_(m.weight, std=1.0 / math.sqrt(m.in_features))
            if m.bias is not None:
                nn.init.zeros_(m.bias)
        elif isinstance(m, nn.Embedding):
            nn.init.trunc_normal_(m.weight, std=0.02)

    def see(self, frames):
        """`frames`: batch x count x height x width x 3, uint8; gives batch x count x tokens x hidden, and the tower's
        patches before the merge."""
        b, f = frames.shape[:2]
        dtype = self.model.vision_model.embeddings.patch_embedding.weight.dtype
        pixels = frames.flatten(0, 1).permute(0, 3, 1, 2).to(dtype) / 127.5 - 1.0
        merged, patches = self.model.vision_model(pixels)
        seen = self.model.projector(merged)
        return seen.view(b, f, *seen.shape[1:]), patches.view(b, f, *patches.shape[1:])

    def forward(self, frames, ids, image_slots, positions, branch, at):
        """Logits at the places `at` (batch x answers' tokens), the hidden states of all places, and the patches.

        `ids`: batch x n tokens with the image token where a vision token stands; `image_slots`: batch x n, index into
        the flattened vision tokens of the clip or -1; `branch`: batch x n, 0 in the prefix, 1.. in the branches, -1 in
        the padding. A place sees the prefix and its own branch, as far as they lie before it.
        """
        seen, patches = self.see(frames)
        seen = seen.flatten(1, 2)
        x = self.model.language_model.embed_tokens(ids)
        wide = lambda index: index[..., None].expand(-1, -1, x.shape[-1])
        picked = torch.gather(seen, 1, wide(image_slots.clamp(min=0)))
        x = torch.where((image_slots >= 0)[..., None], picked.to(x.dtype), x)
        place = torch.arange(ids.shape[1], device=ids.device)
        same = (branch[:, :, None] == branch[:, None, :]) | (branch[:, None, :] == 0)
        allowed = same & (place[:, None] >= place[None, :])
        # In the type of the products: autocast would not do that for it.
        dtype = torch.bfloat16 if torch.is_autocast_enabled(x.device.type) else x.dtype
        mask = torch.where(allowed, 0.0, -1e4).to(dtype)[:, None]
        x = self.model.language_model(x, positions, mask)
        logits = F.linear(torch.gather(x, 1, wide(at)), self.model.language_model.embed_tokens.weight)
        return logits, x, patches
