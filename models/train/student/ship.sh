#!/bin/sh
# A finished training to the files that ship: import, calibration on validation seeds, figures on test seeds, checks.
#
# usage: ship.sh FOLDER OUT
#   FOLDER  what train.py wrote (--out), with the recipe beside it as recipe.json and the tokenizer as checkpoint/tokenizer.json
#   OUT     where student.gguf and what belongs to it are put (models/artifacts)
# environment: AGENT firmware-agent, SCORER score_clips (an example of agent-student), STORE folder of clips,
#   PYTHON python3, VALIDATION and TEST numbers of clips, ROUNDS 1
set -eu
here=$(cd "$(dirname "$0")" && pwd)
training=$1 out=$2
python=${PYTHON:-python3}
recipe=$training/recipe.json
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
value() { "$python" -c "import json,sys; r=json.load(open('$recipe')); print(eval(sys.argv[1], {'r': r}))" "$1"; }

"$AGENT" models import --base "$training/checkpoint" --prompts "$training/checkpoint/questions.json" --quantize q8_0 \
    --name "small student, simulated roads" --licence Apache-2.0 --trained-on simulated --closed-answers --telemetry \
    --frames "$(value "r['frames']")" --fps "$(value "r['fps']")" --before-s "$(value "r['before_s']")" \
    --after-s "$(value "r['frames'] / r['fps'] - r['before_s']")" \
    --frame-size "$(value "str(r['width']) + 'x' + str(r['height'])")" --out "$work/plain.gguf" > "$work/import.json"
score() {
    "$python" "$here/score.py" --recipe "$recipe" --simulator "$AGENT" --store "$STORE" --scorer "$SCORER" "$@" > /dev/null
}
score --model "$work/plain.gguf" --split validation --clips "${VALIDATION:-600}" --scores "$work/scores.jsonl"
"$AGENT" models calibrate "$work/plain.gguf" --scores "$work/scores.jsonl" --out "$work/student.gguf" > "$work/calibration.json"
"$AGENT" models verify "$work/student.gguf" > "$work/verify.json"
score --model "$work/student.gguf" --split validation --clips "${VALIDATION:-600}" --out "$work/validation.json"
score --model "$work/student.gguf" --split test --clips "${TEST:-600}" --out "$work/test.json"
mkdir -p "$out"
cp "$work/student.gguf" "$out/student.gguf"
"$python" -c "import json; print(json.dumps(json.load(open('$recipe')), indent=1))" > "$out/student.recipe.json"
"$python" "$here/manifest.py" "$work" "$training/checkpoint/training.json" "$out"
