"""Makes the small student's tokenizer: byte-level pairs with Qwen2's settings (NFC, its pattern, single digits), trained
on what the student reads and says: the words of simulated truths, telemetry, and our own documents for free questions.

usage: tokenizer.py REPOSITORY OUT.json [SIZE]
"""

import glob
import json
import os
import re
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

import clips

# Qwen2's pattern: contractions, words with one sign before them, single digits, signs, line ends, blanks.
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<|stream_start|>", "<|stream_end|>"]
# How often what it says stands beside what it may be asked: its own words become whole tokens first.
OWN = 300


def wording(repository):
    """The closed sets of descriptions, causes and preventions: `{name: {code: place}}` and their words."""
    with open(os.path.join(repository, "firmware-agent/sim/src/world/wording.rs")) as f:
        text = f.read()
    codes, words = {}, []
    for name in ("description", "cause", "prevention"):
        part = text.split(f"pub const {name.upper()}S", 1)[1].split("];", 1)[0]
        pairs = re.findall(r'\("([a-z_]+)", "([^"]+)"\)', part)
        codes[name] = {code: i for i, (code, _) in enumerate(pairs)}
        words += [w for _, w in pairs]
    return codes, words


def corpus(repository):
    for _ in range(OWN):
        yield from wording(repository)[1]
        yield from clips.QUESTIONS.values()
        yield from ("Yes", "No", "collision", "near-collision", "normal", clips.NONE, "assistant\n", "user\n")
    for i in range(600):
        yield f",Time {i / 10:.1f}s a -{i % 97 / 10:.1f} {i % 31 / 10:.1f} 0.{i % 10} h -{i % 17 / 10:.1f} v {i % 400 / 10:.1f}:"
        yield f"{i / 10:.1f} - {(i + 9) / 10:.1f} seconds"
    for path in sorted(glob.glob(os.path.join(repository, "**/*.md"), recursive=True)):
        if "/target/" not in path:
            with open(path) as f:
                yield from f.read().split("\n")


def main():
    repository, out = sys.argv[1:3]
    size = int(sys.argv[3]) if len(sys.argv) > 3 else 2048
    t = Tokenizer(models.BPE())
    t.normalizer = normalizers.NFC()
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PATTERN), behavior="isolated", invert=False),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    t.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=size - len(SPECIAL), show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    t.train_from_iterator(corpus(repository), trainer)
    t.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in SPECIAL])
    t.save(out)
    print(json.dumps({"entries": t.get_vocab_size(), "out": out}))


if __name__ == "__main__":
    main()
