#!/usr/bin/env bash
# Student and trigger detector trained side by side on one lent GPU machine, rendering on its processor meanwhile: one call.
# How many steps fit is measured in the call and written into the recipes that are kept with the result.
#
# usage: gpu.sh SECONDS WORK OUT
#   SECONDS  for everything; WORK  a folder in memory or on a quick disk (about 0.3 GB a second of rendering on 10 cores)
#   OUT      training.tar.part-* (the student's checkpoint for ship.sh), trigger.tar, log.txt
# environment: AGENT firmware-agent; YOLOX yolox_nano.onnx and CLIPS the real clips for pseudo-labels; PYTHON python3;
#   MAKERS simulators (12), RECIPE student/recipes/small.json, DETECTOR_RECIPE trigger/recipe.json, DETECTOR_SEEDS 300000..304000,
#   DETECTOR_HELD_SEEDS 300000..300800, ONLY detector or student
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
seconds=$1 work=$2 out=$3
python=${PYTHON:-python3} makers=${MAKERS:-12} recipe=${RECIPE:-$here/student/recipes/small.json}
seeds=${DETECTOR_SEEDS:-300000..304000} held=${DETECTOR_HELD_SEEDS:-300000..300800}
begun=$(date +%s)
mkdir -p "$work/student" "$work/detector" "$out"
exec > >(tee "$out/log.txt") 2>&1
spent() { echo $(($(date +%s) - begun)); }
say() { echo "== $(spent) s: $*"; }
export PYTHONUNBUFFERED=1

# Changes values of a recipe: edit FILE OUT 'python with r'.
edit() { "$python" -c "import json,sys; r=json.load(open(sys.argv[1])); exec(sys.argv[3]); json.dump(r, open(sys.argv[2], 'w'), indent=1)" "$@"; }

student() {
    local w=$work/student stretch=${STUDENT_STRETCH:-120} rate rounds left
    # A first stretch tells how quick it is; the schedule's length may be changed afterwards.
    edit "$recipe" "$w/recipe.json" "r['steps'], r['decay_steps'], r['pool'] = $stretch, 1, [[0, $makers]]"
    "$python" "$here/student/tokenizer.py" "$here/../.." "$w/tokenizer.json" "$("$python" -c "import json; print(json.load(open('$recipe'))['shape']['vocab'])")"
    local pids=()
    for ((k = 0; k < makers; k++)); do
        nice -n 10 "$python" "$here/student/store.py" --recipe "$recipe" --simulator "$AGENT" --store "$w/clips" --from "$k" \
            --rounds $((4000 - k)) --every "$makers" > /dev/null &
        pids+=($!)
    done
    trap 'kill "${pids[@]}" 2> /dev/null' EXIT
    # Few, for a look while it trains; the figures come from the finished file.
    edit "$w/recipe.json" "$w/held.json" "r['held_out_round'] = 1200"
    "$python" "$here/student/store.py" --recipe "$w/held.json" --simulator "$AGENT" --store "$w/clips" --split validation \
        --jobs "$makers" > /dev/null
    while [ "$(find "$w/clips" -maxdepth 1 -name 'train-*' | wc -l)" -lt "$makers" ]; do sleep 1; done
    local first
    say "student: $makers rounds"
    train() {
        "$python" "$here/student/train.py" --recipe "$w/recipe.json" --simulator "$AGENT" --tokenizer "$w/tokenizer.json" \
            --store "$w/clips" --out "$w/training" --workers "${WORKERS:-6}" --validate "${VALIDATE:-192}" --report "${REPORT:-20}" \
            --keep 1000 --evaluate 1000 "$@"
    }
    local eager=""
    if ! train > "$w/first.log" 2>&1; then
        tail -n 5 "$w/first.log"
        say "student: compiled layers failed, without them"
        eager=--eager
        train $eager > "$w/first.log" 2>&1 || { tail -n 20 "$w/first.log"; return 1; }
    fi
    tail -n 4 "$w/first.log"
    rate=$(sed -n 's,.*clips/s \([0-9.]*\).*,\1,p' "$w/first.log" | sort -n | tail -n 1)
    rounds=$(find "$w/clips" -maxdepth 1 -name 'train-*' | wc -l)
    first=$(spent)
    left=$((seconds - first - 35))
    edit "$w/recipe.json" "$w/recipe.json" "
batch = r['batch']; more = int(0.93 * $left * $rate / batch); r['steps'] = $stretch + more; r['decay_steps'] = int(0.4 * more)
a_second = $rounds / $first; lag = $makers / a_second; at = lambda s: $stretch + int(s * $rate / batch)
r['pool'] = [[0, $makers], [$stretch, max($makers, $rounds - $makers)], [at(lag), max($makers, $rounds - $makers)], [r['steps'], max($makers, int(0.85 * a_second * ($first + $left - lag)))]]
if r['pool'][2][0] >= r['steps']: r['pool'] = r['pool'][:2]
print(r['steps'], 'steps', r['pool'])"
    say "student: $rate clips/s, $rounds rounds"
    train $eager --minutes "$("$python" -c "print($left / 60)")"
    cp "$w/tokenizer.json" "$w/training/checkpoint/"
    cp "$w/recipe.json" "$w/training/"
    (cd "$w" && tar cf - training/checkpoint training/recipe.json | split -b 15000000 - "$out/training.tar.part-")
    say "student: $(find "$w/clips" -maxdepth 1 -name 'train-*' | wc -l) rounds in the end"
}

detector() {
    local w=$work/detector
    local of=$held
    for split in validation train; do
        "$AGENT" simulate --batch --seeds "$of" --split $split --out "$w/$split" --width 384 --height 216 --fps 2 --clip-s 8 \
            --per-shard 8 --jobs "$(nproc --all)" > /dev/null 2>&1
        of=$seeds
    done
    "$python" "$here/trigger/pseudo_labels.py" --model "$YOLOX" --out "$w/real.npz" $CLIPS
    say "detector: rendered"
    train() {
        "$python" "$here/trigger/train.py" --recipe "$w/recipe.json" --train "$w/train" --validation "$w/validation" \
            --real "$w/real.npz" --out "$w/run" --workers "${DETECTOR_WORKERS:-6}"
    }
    local stretch=${STRETCH:-150}
    edit "${DETECTOR_RECIPE:-$here/trigger/recipe.json}" "$w/recipe.json" "r['steps'] = $stretch; r['evaluate_every'] = 10**9"
    train || return 1
    edit "$w/recipe.json" "$w/recipe.json" "
import json
log = [json.loads(l) for l in open('$w/run/log.jsonl')]
a_step = (log[-1]['seconds'] - log[0]['seconds']) / (log[-1]['step'] - log[0]['step'])
r['steps'] = $stretch + int(0.9 * ($seconds - $(spent) - ${SLACK:-40}) / a_step); r['evaluate_every'] = r['steps']
print(r['steps'], 'steps of', a_step, 's')"
    say "detector: goes on"
    train
    tail -n 3 "$w/run/log.jsonl"
    cp "$w/recipe.json" "$w/run/"
    tar cf "$out/trigger.tar" -C "$w" run
    say "detector: done"
}

pids=()
for part in ${ONLY:-detector student}; do
    $part &
    pids+=($!)
done
for pid in "${pids[@]}"; do
    wait "$pid" || say "a part failed"
done
say "done"
