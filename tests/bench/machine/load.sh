#!/usr/bin/env bash
# A full CAN bus and a fast motion sensor at the speed of this machine: the agent under user-mode Linux, whose kernel has real vcan,
# CUSE and I2C where the host's may have none. The emulated machine of run.sh is too slow for that.
#   tests/bench/machine/load.sh DIR [SECONDS [RATE]]        (default 60, 20000 frames a second)
#
# With KERNEL, a kernel of kernel.sh, there is vivid too: 640x360 at 30 a second, encoded and looked at by the detector that ships, which
# must lose no frame. The program is one with the feature v4l2 then; with CAMERA=usb it is one with the feature gstreamer, and GStreamer
# reads that camera, encodes (x264enc) and scales.
#
# Needs root, x86-64, mmdebstrap, and the network once: Debian 13's minimal file system and the package user-mode-linux (of
# sid: that of Debian 12 does not start where the processor has AMX). Takes the program AGENT (default
# target/release/firmware-agent) and the player PLAYER (default target/debug/examples/play_unit, made by building the tests).
# Leaves in DIR/host what was said. Ends with the table of results; exit code 1 if anything failed.
set -euo pipefail
exec </dev/null
[ $# -ge 1 ] || { echo "usage: tests/bench/machine/load.sh DIR [SECONDS]" >&2 && exit 2; }
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
here=tests/bench/machine
seconds=${2:-60} rate=${3:-20000}
mkdir -p "$1"
dir=$(cd "$1" && pwd)
root=$dir/root
say() { printf '== %s\n' "$*" >&2; }
stop() { printf 'load.sh: %s\n' "$*" >&2 && exit 2; }
[ "$(id -u)" = 0 ] || stop "run it as root"
agent=${AGENT:-target/release/firmware-agent} player=${PLAYER:-target/debug/examples/play_unit}
[ -x "$agent" ] || stop "no program $agent: cargo build --release -p firmware-agent"
[ -x "$player" ] || stop "no player $player: cargo build -p agent-sim --example play_unit"

if [ ! -x "$root/usr/bin/linux.uml" ]; then
    command -v mmdebstrap >/dev/null || DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends mmdebstrap >&2
    mirror=http://deb.debian.org/debian
    say "the file system (trixie, amd64)"
    rm -rf "$root"
    mmdebstrap --quiet --variant=minbase --include=iproute2,kmod,mosquitto,python3-minimal,libstdc++6 \
        --aptopt='Apt::Install-Recommends "false"' trixie "$root" $mirror >&2
    say "the kernel"
    package=$(curl -sSf $mirror/dists/sid/main/binary-amd64/Packages.xz | xz -dc |
        awk '/^Package: /{ours = $2 == "user-mode-linux"} ours && /^Filename: /{print $2}' | tail -n 1)
    [ -n "$package" ] || stop "no package user-mode-linux in sid"
    curl -sSf -o "$dir/kernel.deb" "$mirror/$package"
    dpkg -x "$dir/kernel.deb" "$root"
    release=$(ls "$root/usr/lib/uml/modules")
    mkdir -p "$root/usr/lib/modules"
    ln -sfn "../uml/modules/$release" "$root/usr/lib/modules/$release"
    chroot "$root" depmod "$release"
fi

rm -rf "$root/host" && mkdir -p "$root/host"
cp "$agent" "$root/host/firmware-agent"
cp "$player" "$root/host/play_unit"
cp $here/common.sh $here/load-steps.sh $here/unit.toml firmware-agent/sim/assets/demo.dbc "$root/host/"
# The machine's unit at the speed of this one: without lines, which there are none of, each frame looked at; a camera only where one is.
sed -i -e '/^\[sources.gpio\]/,$d' -e '/^\[trigger.vision\]/,/^$/d' -e 's|/var/lib/firmware-agent|/tmp|' "$root/host/unit.toml"
linux=/usr/bin/linux.uml camera= kind=${CAMERA:-v4l2}
if [ -n "${KERNEL:-}" ]; then
    cp "$KERNEL" "$root/host/linux.uml"
    linux=/host/linux.uml camera="vivid.n_devs=1 vivid.node_types=0x1"
    sed -i -e 's/^width = 320/width = 640/' -e 's/^height = 180/height = 360/' -e 's/^bitrate_mbit_s = .*/bitrate_mbit_s = 2.0/' \
        -e "s/^kind = \"v4l2\"/kind = \"$kind\"/" "$root/host/unit.toml"
    if [ "$kind" = usb ] && [ ! -x "$root/usr/bin/gst-launch-1.0" ]; then
        say "GStreamer in the file system"
        cp /etc/resolv.conf "$root/etc/"
        chroot "$root" sh -ec 'apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
            gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly' >&2
    fi
else
    sed -i -e '/^\[sources.camera\]/,/^$/d' "$root/host/unit.toml"
    printf '\n[sources.camera]\nkind = "none"\n' >>"$root/host/unit.toml"
fi
say "$seconds s"
unshare -m bash -c 'mount --bind /proc "$0/proc" && mount -t tmpfs shm "$0/dev/shm" && mount -t tmpfs tmp "$0/tmp" &&
    exec timeout "$1" chroot "$0" $4 root=/dev/root rootfstype=hostfs rootflags=/ rw mem=1G seccomp=auto seconds="$2" rate="$3" $5 \
    init=/host/load-steps.sh con=null con0=null,fd:1 quiet' \
    "$root" "$((seconds + 120))" "$seconds" "$rate" "$linux" "$camera" >"$dir/console.log" 2>&1 || true
[ -s "$root/host/out.log" ] || stop "the machine said nothing: $dir/console.log"
rm -rf "$dir/host" && mkdir -p "$dir/host"
cp "$root"/host/*.log "$root"/host/*.jsonl "$dir/host/" 2>/dev/null || true
grep -hE '^(RESULT|PASS|FAIL)' "$dir/host/out.log"
grep -q '^PASS load_over' "$dir/host/out.log" && ! grep -q '^FAIL' "$dir/host/out.log"
