"""Makes fixtures/tokenizer.json.gz: a small Qwen2-style tokenizer and 1,000 strings with the ids that the Hugging
Face tokenizer gives them, chat prompts about each of the strings, and frame headers as transformers'
VideoLlama3Processor writes them.

Run from models/student:  python reference/make_tokenizer_fixture.py
Pinned: tokenizers 0.23.3, transformers 5.23.0. Same versions, same bytes.

The byte-level BPE is trained here, on sentences that this script makes up by rule, to 2,048 entries. It has the
settings of Qwen2's tokenizer: NFC, Qwen2's pattern (single digits), byte level, special tokens not normalised.

Chats: 24 with all their ids, for reading where they part; and for each string two of which only a hash of the ids is
kept, one with the string as the question and one with it as the text before the frames' tokens.
"""

import gzip
import json
import types

import tokenizers
import torch
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast
from transformers.models.video_llama_3.processing_video_llama_3 import VideoLlama3Processor

assert tokenizers.__version__ == "0.23.3", tokenizers.__version__
assert transformers.__version__ == "5.23.0", transformers.__version__

PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<|stream_start|>", "<|stream_end|>"]
PLAIN = ["<tool_call>", "</tool_call>"]  # added, but not special: kept when decoding
SIZE = 2048


class Rng:
    """A linear congruential generator, so that the strings depend on no library's random numbers."""

    def __init__(self, seed):
        self.state = seed

    def below(self, n):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self.state >> 33) % n

    def pick(self, items):
        return items[self.below(len(items))]


WHO = ["ego-car", "car", "truck", "bus", "van", "cyclist", "pedestrian", "motorbike", "tram", "delivery rider", "dog"]
DOES = ["hits", "overtakes", "swerves around", "brakes behind", "slides towards", "stops before", "cuts in front of"]
WHERE = ["at the junction", "on the wet motorway", "in the left lane", "near the school", "under the bridge", "in fog"]
WHY = ["too fast", "distracted", "blinded by the sun", "tired", "too close", "on worn tyres", "without lights"]
ADVICE = ["keep a larger distance", "slow down early", "look over the shoulder", "use the indicator", "yield the way"]
QUESTION = ["When does it begin?", "Who is at fault, if anyone?", "Does anything collide?", "What should be done?"]
CODE = ["fn main() {", "let x = v[i] + 1;", "if (a != b) return -1;", "def f(x):\n\treturn x ** 2", "// 0x1F & ~mask"]


def sentence(r):
    kind = r.below(6)
    if kind == 0:
        return f"{r.pick(WHO)} {r.pick(DOES)} a {r.pick(WHO)} {r.pick(WHERE)}."
    if kind == 1:
        return f"The driver was {r.pick(WHY)} and the {r.pick(WHO)} {r.pick(DOES)} the {r.pick(WHO)}."
    if kind == 2:
        a = r.below(60)
        return f"{a // 10}.{a % 10} - {(a + 7) // 10}.{(a + 7) % 10} seconds"
    if kind == 3:
        return f"Drivers should {r.pick(ADVICE)}, {r.pick(ADVICE)} and {r.pick(ADVICE)} {r.pick(WHERE)}."
    if kind == 4:
        return f"Time {r.below(90) / 10:.1f}s ax -{r.below(90) / 10:.1f} ay {r.below(30) / 10:.1f} v {r.below(400) / 10:.1f}:"
    return f"{r.pick(QUESTION)} Answer with Yes or No. {r.pick(CODE)}"


def train():
    t = Tokenizer(models.BPE())
    t.normalizer = normalizers.NFC()
    t.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    t.decoder = decoders.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    r = Rng(1)
    corpus = [" ".join(sentence(r) for _ in range(4)) for _ in range(4000)]
    # The sentences have few distinct words: syllables fill the vocabulary with pieces of words, as a real one has.
    onset = ["b", "br", "c", "cr", "d", "dr", "f", "g", "h", "l", "m", "n", "p", "pl", "r", "s", "st", "t", "tr", "v"]
    rest = ["a", "an", "ar", "e", "en", "er", "i", "in", "ing", "o", "on", "or", "u", "un", "ion", "ight", "ed", "ly"]
    for _ in range(6000):
        word = "".join(r.pick(onset) + r.pick(rest) for _ in range(1 + r.below(4)))
        corpus.append(word if r.below(4) else word.capitalize())
        corpus.append(" ".join("é ü ß ñ ж д 車 道 🚗 ü".split()[: 1 + r.below(10)]))
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE - len(SPECIAL) - len(PLAIN),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    t.train_from_iterator(corpus, trainer)
    t.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in SPECIAL])
    t.add_tokens([AddedToken(s, special=False, normalized=False) for s in PLAIN])
    return t


SCRIPTS = [
    (0x20, 0x5F), (0xA0, 0x60), (0x100, 0x80), (0x300, 0x50), (0x370, 0x80), (0x400, 0xC0), (0x590, 0x60),
    (0x600, 0x90), (0x900, 0x70), (0xE00, 0x58), (0x1100, 0x80), (0x1E00, 0x90), (0x2000, 0x2F), (0x2070, 0x20),
    (0x2150, 0x30), (0x2460, 0x40), (0x3000, 0x90), (0x4E00, 0x400), (0xAC00, 0x400), (0xFB00, 0x06), (0xFF10, 0x50),
    (0x1D7CE, 0x30), (0x1F300, 0x200), (0x1F600, 0x50), (0x1F1E6, 0x1A), (0xE0100, 0x10),
]
SPACES = [" ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u2003", "\u3000", "\u200b", "\u0085", "\v", "\f", "\u2028", "\r"]
CONTRACTIONS = ["'s", "'S", "'t", "'RE", "'ve", "'M", "'lL", "'d", "'\u017f", "'", "''", "\u2019s", "'x", "'\u212a"]


def text(r, i):
    kind = i % 10
    if kind == 0:
        return " ".join(sentence(r) for _ in range(1 + r.below(3)))
    if kind == 1:  # any script, any order
        return "".join(chr(s + r.below(n)) for s, n in (r.pick(SCRIPTS) for _ in range(1 + r.below(24))))
    if kind == 2:  # runs of white space between words
        return "".join(r.pick(["car", "hits", "1", "."]) + "".join(r.pick(SPACES) for _ in range(r.below(6))) for _ in range(8))
    if kind == 3:  # digits
        return "".join(r.pick(["0", "12", "3.5", "٣", "½", "Ⅷ", "１", "-", ",", " "]) for _ in range(1 + r.below(20)))
    if kind == 4:
        return "".join(r.pick(["we", "I", "it", "they", "CAR"]) + r.pick(CONTRACTIONS) + r.pick(["", " ", "\n"]) for _ in range(6))
    if kind == 5:  # special tokens in text, whole and broken
        parts = SPECIAL + PLAIN + ["<|im_", "|>", "<", "image>", "user\n", "assistant\n", " ", "x", "\n"]
        return "".join(r.pick(parts) for _ in range(1 + r.below(12)))
    if kind == 6:
        return "\n".join(r.pick(CODE) for _ in range(1 + r.below(4)))
    if kind == 7:  # combining marks, emoji with joiners, composed and decomposed
        parts = ["e\u0301", "é", "a\u0328\u0301", "ﬁ", "Å", "\u212b", "👩\u200d🚒", "🇩🇪", "👍🏽", "각", "\u1100\u1161", "q\u0307\u0323", " "]
        return "".join(r.pick(parts) for _ in range(1 + r.below(12)))
    if kind == 8:  # punctuation
        return "".join(r.pick(list("!?.,;:-_()[]{}@#$%^&*+=/\\|~`\"'…—«»") + [" ", "a", "\n", "7"]) for _ in range(1 + r.below(24)))
    words = [r.pick(["Vehicle", "überholt", "collision", "ДТП", "事故", "crème", "STOP", "mph"]) for _ in range(1 + r.below(12))]
    return r.pick(SPACES) * r.below(3) + r.pick([" ", "", "  "]).join(words) + r.pick(SPACES) * r.below(3)


# The chat format of crashchat.md, as a template of our own: no checkpoint's template is at hand where this runs.
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.video %}{{ m.video }}\n{% endif %}{{ m.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def fast_of(t):
    return PreTrainedTokenizerFast(tokenizer_object=t, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def video_of(fps, kept):
    """The video's text as the reference's processor writes it: so many of each frame's six tokens kept."""
    mask = torch.cat([torch.arange(6) < n for n in kept])
    inputs = dict(
        video_grid_thw=torch.tensor([[len(kept), 4, 6]]),
        video_merge_sizes=torch.tensor([2]),
        video_compression_mask=mask,
        video_metadata=[types.SimpleNamespace(fps=fps, timestamps=[k / fps for k in range(len(kept))])],
    )
    return VideoLlama3Processor.replace_video_token(types.SimpleNamespace(video_token="<image>"), inputs, 0)


def chat_ids(fast, video, question):
    return fast.apply_chat_template(
        [dict(role="user", video=video, content=question)],
        chat_template=TEMPLATE, add_generation_prompt=True, tokenize=True, return_dict=False,
    )


def chats(fast):
    r, out = Rng(3), []
    for i in range(24):
        frames = 1 + r.below(18)
        fps = r.pick([3, 10, 4])
        kept = [1 + r.below(5) for _ in range(frames)]
        question = r.pick(QUESTION) if i % 3 else text(r, 7) + " " + r.pick(QUESTION)
        ids = chat_ids(fast, video_of(fps, kept), question)
        out.append(dict(times=[k / fps for k in range(frames)], kept=kept, question=question, ids=ids))
    return out


def shielded(t, bare, frames, question):
    """Ids of a chat in which text can hold no added token: the chat's own tokens by their ids, the text between them by
    the same Hugging Face tokenizer with its added tokens taken out. `frames` are texts and numbers of tokens."""
    plain = lambda s: bare.encode(s, add_special_tokens=False).ids
    ids = [t.token_to_id("<|im_start|>")]
    for i, (head, kept) in enumerate(frames):
        ids += plain(("," if i else "user\n") + head) + [t.token_to_id("<image>")] * kept
    ids += plain("\n" + question) + [t.token_to_id("<|im_end|>")] + plain("\n")
    return ids + [t.token_to_id("<|im_start|>")] + plain("assistant\n")


def fnv(ids):
    """FNV-1a, 64 bits, of the ids as four bytes each, low byte first."""
    h = 0xCBF29CE484222325
    for byte in b"".join(i.to_bytes(4, "little") for i in ids):
        h = (h ^ byte) * 0x100000001B3 % 2**64
    return h


def hashed_chats(t, fast, strings):
    """For each string the hashes of two chats, and of the first one again where the chat template lets tokens in.

    The numbers of frames and tokens follow from the place i of the string; tests/it/decode_prompt.rs has the same.
    Where a string holds the text of an added token, apply_chat_template turns it into that token, and the student by
    design does not: there `shielded` is what the student must give, and everywhere else it is held to the template.
    """
    saved = json.loads(t.to_str())
    saved["added_tokens"] = []
    bare = Tokenizer.from_str(json.dumps(saved))
    both, let_in = [], []
    for i, s in enumerate(strings):
        fps, kept = [3, 10, 4][i % 3], [1 + (i + 3 * k) % 5 for k in range(1 + i % 18)]
        holds = any(token in s for token in SPECIAL + PLAIN)
        asked = shielded(t, bare, [(f"Time {k / fps:.1f}s:", n) for k, n in enumerate(kept)], s)
        template = chat_ids(fast, video_of(fps, kept), s)
        assert (asked == template) != holds, s
        if holds:
            let_in.append([i, fnv(template)])
        frames = [(s, 1 + i % 5), (s, 2)]
        headed = shielded(t, bare, frames, QUESTION[i % 4])
        template = chat_ids(fast, ",".join(head + "<image>" * n for head, n in frames), QUESTION[i % 4])
        assert (headed == template) != holds, s
        both.append([fnv(asked), fnv(headed)])
    return both, let_in


def main():
    t = train()
    assert t.get_vocab_size() == SIZE, t.get_vocab_size()
    saved = json.loads(t.to_str())
    vocab = t.get_vocab()
    tokens = [None] * SIZE
    for token, i in vocab.items():
        tokens[i] = token
    kinds = [3 if x in SPECIAL else 4 if x in PLAIN else 1 for x in tokens]
    merges = [" ".join(m) if isinstance(m, list) else m for m in saved["model"]["merges"]]
    r = Rng(2)
    cases = []
    for i in range(1000):
        s = text(r, i)
        ids = t.encode(s, add_special_tokens=False).ids
        cases.append([s, ids, t.decode(ids, skip_special_tokens=True)])
    fast = fast_of(t)
    hashed, let_in = hashed_chats(t, fast, [c[0] for c in cases])
    out = dict(
        tokens=tokens, kinds=kinds, merges=merges, end=vocab["<|im_end|>"], pad=vocab["<|endoftext|>"],
        image=vocab["<image>"], cases=cases, chats=chats(fast),
        hashed=hashed, let_in=let_in,
    )
    raw = json.dumps(out, ensure_ascii=False, separators=(",", ":")).encode()
    with open("fixtures/tokenizer.json.gz", "wb") as f:
        f.write(gzip.compress(raw, 9, mtime=0))
    print(len(raw), "bytes of JSON,", len(merges), "merges,", sum(len(c[1]) for c in cases), "ids,", len(let_in), "let in")


main()
