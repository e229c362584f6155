#!/usr/bin/env bash
# Every measurement, one after the other, as Markdown on stdout with machine, date and load; about 20 minutes on two
# cores. firmware-agent/docs/measurements.md holds the last results.
#
# Needs python3, mosquitto with mosquitto_sub, ffmpeg with ffprobe, a release build of the agent (or AGENT_BIN), and for
# replay_speed, clips and peers the data folder (AGENT_DATA, default ../shared/data). One that fails is said at the end.
#
# usage: all.sh [PART...]
#   parts: latency memory replay_speed kills disks hang clips peers soak gstreamer; default all but the last two.
#   disks and hang want root, gstreamer a build with that feature.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(latency memory replay_speed kills disks hang clips peers)
failed=()
for part in "${parts[@]}"; do
    case "$part" in
    latency | memory | replay_speed | hang | clips | soak | gstreamer) python3 "$here/$part.py" || failed+=("$part") ;;
    kills | disks) python3 "$here/$part.py" --agent "${AGENT_BIN:-$here/../../target/release/firmware-agent}" || failed+=("$part") ;;
    peers) bash "$here/peers.sh" || failed+=("$part") ;;
    *) echo "no such part: $part" >&2 && exit 2 ;;
    esac
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "failed: ${failed[*]}" >&2
    exit 1
fi
