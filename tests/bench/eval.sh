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
# Seeds of the test split, by the rule in sim/src/world/truth.rs.
seeds=$(python3 - "$count" <<'PY'
import sys

seed, left, mask = 0, int(sys.argv[1]), 2**64 - 1
while left:
    z = (seed + 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    if (z ^ (z >> 31)) % 10 == 0:
        print(seed)
        left -= 1
    seed += 1
PY
)
nth=0
for seed in $seeds; do
    scenario=${scenarios[$((nth * 29 % ${#scenarios[@]}))]}
    drive=$out/drives/$scenario-$seed.mcap
    [ -e "$drive.truth.json" ] || "$agent" simulate "$scenario" --seed "$seed" --out "$drive" ${EVAL_SIMULATE:-} >/dev/null
    nth=$((nth + 1))
done
exec "$agent" eval --drives "$out/drives" --out "$out" "$@"
