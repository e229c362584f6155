"""Makes the small student's tokenizer: byte-level pairs with Qwen2's settings (NFC, its pattern, single digits), trained
on what the student reads and says: the words of simulated truths, telemetry, and our own documents for free questions.

usage: tokenizer.py SIMULATOR REPOSITORY OUT.json
"""

import glob
import json
import os
import subprocess
import sys
import tempfile

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

import clips

# Qwen2's pattern: contractions, words with one sign before them, single digits, signs, line ends, blanks.
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<|stream_start|>", "<|stream_end|>"]
SIZE = 2048


def corpus(simulator, repository):
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([simulator, "simulate", "--batch", "--seeds", "0..400", "--split", "train", "--fps", "1",
                        "--width", "64", "--height", "64", "--out", folder], check=True, stdout=subprocess.DEVNULL)
        for clip, _, _, _ in clips.shards(folder):
            drive = clip["drive"]
            yield from (drive[k]["text"] for k in ("description", "cause", "prevention"))
    for i in range(600):
        yield f",Time {i / 10:.1f}s a -{i % 97 / 10:.1f} {i % 31 / 10:.1f} 0.{i % 10} h -{i % 17 / 10:.1f} v {i % 400 / 10:.1f}:"
        yield f"{i / 10:.1f} - {(i + 9) / 10:.1f} seconds"
    yield from clips.QUESTIONS.values()
    yield from ("Yes", "No", "collision", "near-collision", "normal", clips.NONE, "assistant\n", "user\n")
    for path in sorted(glob.glob(os.path.join(repository, "**/*.md"), recursive=True)):
        with open(path) as f:
            yield from f.read().split("\n")


def main():
    simulator, repository, out = sys.argv[1:]
    t = Tokenizer(models.BPE())
    t.normalizer = normalizers.NFC()
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PATTERN), behavior="isolated", invert=False),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    t.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=SIZE - len(SPECIAL), show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    t.train_from_iterator(corpus(simulator, repository), trainer)
    t.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in SPECIAL])
    t.save(out)
    print(json.dumps({"entries": t.get_vocab_size(), "out": out}))


if __name__ == "__main__":
    main()
