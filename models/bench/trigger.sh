#!/bin/sh
# Times the detectors against onnxruntime, one thread each, and the one that ships against FastestDet there too, and the risk head, on frames of a real clip (noise where no data
# folder is there). Needs python3 with onnxruntime and numpy, and ffmpeg. Rounds: first argument. `--tract` as the
# second argument times tract's own plan instead of the lowered network.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
data=${TRIGGER_DATA:-$root/../shared/data}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(cd "$root" && cargo build --quiet --release -p agent-models --example bench_trigger)
clip="$data/clips/carnd_vd_test_video.mp4"
if [ -f "$clip" ]; then
    ffmpeg -v error -i "$clip" -frames:v 4 -vf "select=not(mod(n\,8)),scale=1280:720" -vsync 0 -f rawvideo -pix_fmt rgb24 "$work/frames.rgb"
else
    echo "no clips: noise frames"
    head -c $((1280 * 720 * 3 * 4)) /dev/urandom > "$work/frames.rgb"
fi
peer="$data/models/FastestDet.onnx"
[ -f "$peer" ] || { echo "no $peer"; peer=; }
python3 "$here/onnxruntime_peer.py" "$root/target/release/examples/bench_trigger" "$root/models/artifacts/trigger.toml" \
    "$root/models/artifacts/trigger.onnx" "$work" "$work/frames.rgb" 1280 720 "${1:-200}" ${peer:+--peer="$peer"} ${2:-}
"$root/target/release/examples/bench_trigger" --head
for pair in yolox_nano:yolox_nano fastestdet:FastestDet; do
    onnx="$data/models/${pair#*:}.onnx"
    [ -f "$onnx" ] || { echo "no $onnx"; continue; }
    python3 "$here/onnxruntime_peer.py" "$root/target/release/examples/bench_trigger" "$root/models/manifests/${pair%%:*}.toml" \
        "$onnx" "$work" "$work/frames.rgb" 1280 720 "${1:-200}" ${2:-}
done
