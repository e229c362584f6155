#!/usr/bin/env bash
# Our inference against onnxruntime, one thread each, by turns on the same frames: runs models/bench/trigger.sh and
# prints its lines. Builds the benchmark's example in release mode. Needs python3 with numpy and onnxruntime, ffmpeg.
#
# usage: peers.sh [ROUNDS]        (default 200)
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
echo "### Inference against onnxruntime"
echo
PYTHONPATH="$here" python3 -c 'import common; print(common.machine().rsplit(";", 1)[0])'
echo
if [ ! -f "$root/models/bench/trigger.sh" ]; then
    echo "skipped: no models/bench/trigger.sh"
elif ! python3 -c 'import numpy, onnxruntime' 2>/dev/null; then
    echo "skipped: python3 has no numpy or no onnxruntime"
else
    echo '```'
    TRIGGER_DATA="${AGENT_DATA:-$root/../shared/data}" sh "$root/models/bench/trigger.sh" "${1:-200}"
    echo '```'
fi
echo
