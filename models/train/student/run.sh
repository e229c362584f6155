#!/bin/sh
# One call of a training: clips, training for some minutes, and when it has all its steps the files that ship. The same call
# goes on where the last one ended, so a machine that is lent for ten minutes at a time is enough.
#
# usage: run.sh RECIPE.json FOLDER MINUTES OUT
#   FOLDER  keeps everything between calls: clips, tokenizer, checkpoint
#   OUT     where the finished student is put
# environment: AGENT firmware-agent and SCORER score_clips (both built before: they need no GPU), PYTHON python3,
#   MAKERS simulators side by side (default: all cores but two)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
recipe=$1 folder=$2 minutes=$3 out=$4
export PYTHON="${PYTHON:-python3}" STORE="$folder/clips"
makers=${MAKERS:-$(($(nproc) > 3 ? $(nproc) - 2 : 1))}
mkdir -p "$folder/training"
cp "$recipe" "$folder/training/recipe.json"
read -r vocab rounds steps <<EOF
$("$PYTHON" -c "import json; r = json.load(open('$recipe')); print(r['shape']['vocab'], r['pool'][-1][1], r['steps'])")
EOF
if [ ! -f "$folder/tokenizer.json" ]; then
    "$PYTHON" "$here/tokenizer.py" "$here/../../.." "$folder/tokenizer.json" "$vocab"
fi
# Rounds that are there already are skipped; the makers end with the call.
pids=""
k=0
while [ "$k" -lt "$makers" ]; do
    "$PYTHON" "$here/store.py" --recipe "$recipe" --simulator "$AGENT" --store "$STORE" --from "$k" \
        --rounds $((rounds - k)) --every "$makers" > /dev/null &
    pids="$pids $!"
    k=$((k + 1))
done
trap 'kill $pids 2> /dev/null || true' EXIT
"$PYTHON" "$here/train.py" --recipe "$recipe" --simulator "$AGENT" --tokenizer "$folder/tokenizer.json" --store "$STORE" \
    --out "$folder/training" --minutes "$minutes" --workers "${WORKERS:-4}"
done_steps=$("$PYTHON" -c "import json; print(json.load(open('$folder/training/checkpoint/training.json'))['log'][-1]['step'])")
if [ "$done_steps" -ge "$steps" ]; then
    "$here/ship.sh" "$folder/training" "$out"
else
    echo "step $done_steps of $steps: the same call goes on"
fi
