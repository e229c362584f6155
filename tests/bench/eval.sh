#!/usr/bin/env bash
# Makes N simulated drives of the test split (never trained on), over all scenarios by turns, replays them and scores them.
# Drives that are there already are used again. About 0.4 s of one core a second of drive at the default size.
#
# Needs a release build of the agent (or AGENT_BIN).
# usage: eval.sh N OUT [--trigger MANIFEST] [--student FILE] [other options of `firmware-agent eval`]
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2; }
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
agent=${AGENT_BIN:-$root/target/release/firmware-agent}
count=$1 out=$2
shift 2
mkdir -p "$out/drives"
mapfile -t scenarios < <("$agent" simulate --list | awk '{print $1}')
seeds=$(cd "$root/tests/bench" && python3 -B - "$count" <<'PY'
import itertools
import sys

sys.path.insert(0, ".")
import common

print(*itertools.islice(common.test_seeds(), int(sys.argv[1])))
PY
)
# By turns of 31, which has no factor in common with 87 scenarios.
nth=0
for seed in $seeds; do
    scenario=${scenarios[$((nth * 31 % ${#scenarios[@]}))]}
    drive=$out/drives/$scenario-$seed.mcap
    [ -e "$drive.truth.json" ] || "$agent" simulate "$scenario" --seed "$seed" --out "$drive" ${EVAL_SIMULATE:-} >/dev/null
    nth=$((nth + 1))
done
exec "$agent" eval --drives "$out/drives" --out "$out" "$@"
