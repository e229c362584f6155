"""The language half on the CPU: ours and llama.cpp on the same random file, taking turns, in one run.

Usage: student_cpu.py BENCH_LANGUAGE [--rounds N] [--threads N] [--shapes body85,small] [--types q8_0,q4_k]
Each round is a prefill of 512 and a decode of 64 tokens by each; medians and their ratio (above 1: ours is faster)
by the clock and by the processor time that the process used, times its threads. Needs llama-cpp-python and gguf.
llama.cpp runs with flash attention and without; the faster of its two medians counts. Read two threads only on a quiet
machine: with more work than processors its threads wait for each other inside every operation and its figures fall
apart (a decode of 7 tokens a second by processor time was seen where one thread gave 117), which is no merit of ours.
"""
import argparse
import ctypes
import glob
import os
import statistics
import subprocess
import tempfile
import time

import llama_cpp as llama

import student_files


@llama.llama_log_callback
def quiet(_level, _text, _data):
    pass


def cpu_s():
    total = 0
    for path in glob.glob("/proc/self/task/*/schedstat"):
        try:
            with open(path) as file:
                total += int(file.read().split()[0])
        except OSError:
            pass
    return total / 1e9


class Llama:
    def __init__(self, path, prefill, decode, threads, flash):
        self.prefill, self.decode = prefill, decode
        params = llama.llama_model_default_params()
        params.n_gpu_layers = 0
        self.model = llama.llama_model_load_from_file(path.encode(), params)
        params = llama.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = 1024, 512, 512
        params.n_threads = params.n_threads_batch = threads
        params.flash_attn_type, params.no_perf = flash, True
        self.context = llama.llama_init_from_model(self.model, params)
        self.vocab = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(self.model))

    def eval(self, tokens):
        array = (llama.llama_token * len(tokens))(*tokens)  # the batch only points to it
        if llama.llama_decode(self.context, llama.llama_batch_get_one(array, len(tokens))) != 0:
            raise RuntimeError("llama_decode")

    def round(self, number):
        llama.llama_memory_clear(llama.llama_get_memory(self.context), True)
        tokens = [(i * 97 + number * 31 + i * i * 7) % self.vocab for i in range(self.prefill)]
        marks = [(time.perf_counter(), cpu_s())]
        self.eval(tokens)
        marks.append((time.perf_counter(), cpu_s()))
        for i in range(1, self.decode):
            self.eval([i + 5])
        marks.append((time.perf_counter(), cpu_s()))
        (a, ca), (b, cb), (c, cc) = marks
        return b - a, cb - ca, c - b, cc - cb


class Ours:
    def __init__(self, program, path, backend, prefill, decode, threads):
        command = [program, path, backend, str(prefill), str(decode), str(threads)]
        environment = dict(os.environ, RAYON_NUM_THREADS=str(threads))
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        assert self.process.stdout.readline().strip() == "ready"

    def round(self, _number):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return tuple(float(field) for field in self.process.stdout.readline().split())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def compare(program, shape, kind, args):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "random.gguf")
        student_files.write(path, shape, kind)
        size = os.path.getsize(path)
        sides = {"ours": Ours(program, path, "engine", args.prefill, args.decode, args.threads)}
        if args.candle:
            sides["candle"] = Ours(program, path, "candle", args.prefill, args.decode, args.threads)
        sides["llama.cpp"] = Llama(path, args.prefill, args.decode, args.threads, 0)
        sides["llama.cpp, flash attention"] = Llama(path, args.prefill, args.decode, args.threads, 1)
        times = {name: [] for name in sides}
        for number in range(args.rounds + 1):
            for name, side in sides.items():
                result = side.round(number)
                time.sleep(0.05)  # the peer's threads spin for a while after their work
                if number:  # the first round warms up
                    times[name].append(result)
        for name in list(sides):
            if isinstance(sides[name], Ours):
                sides[name].close()
    print(f"{shape} {kind} ({size / 1e6:.0f} MB), {args.threads} threads, {args.rounds} rounds: tokens a second"
          " by the clock (by processor time)")
    speed = {}
    for name, rounds in times.items():
        columns = [statistics.median(column) for column in zip(*rounds)]
        pre, pre_cpu = args.prefill / columns[0], args.prefill * args.threads / columns[1]
        dec, dec_cpu = (args.decode - 1) / columns[2], (args.decode - 1) * args.threads / columns[3]
        speed[name] = (pre, pre_cpu, dec, dec_cpu)
        print(f"  {name:28} prefill {pre:8.1f} ({pre_cpu:8.1f})   decode {dec:7.1f} ({dec_cpu:7.1f})")
    peer = [max(values) for values in zip(*(speed[name] for name in speed if name.startswith("llama")))]
    ratio = [ours / theirs for ours, theirs in zip(speed["ours"], peer)]
    print("  ours / llama.cpp             prefill {:8.2f} ({:8.2f})   decode {:7.2f} ({:7.2f})".format(*ratio),
          flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prefill", type=int, default=512)
    parser.add_argument("--decode", type=int, default=64)
    parser.add_argument("--shapes", default="body85,small")
    parser.add_argument("--types", default="q8_0,q4_k")
    parser.add_argument("--candle", action="store_true", help="the tensor library's backend too")
    args = parser.parse_args()
    llama.llama_backend_init()
    llama.llama_log_set(quiet, ctypes.c_void_p(0))
    print(f"llama-cpp-python {llama.__version__}; {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
    for shape in args.shapes.split(","):
        for kind in args.types.split(","):
            compare(args.program, shape, kind, args)


if __name__ == "__main__":
    main()
