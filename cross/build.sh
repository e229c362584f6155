#!/usr/bin/env bash
# Builds the release program for aarch64 without Docker: cross/build.sh [cargo options, such as --features v4l2]
#
# Without what no unit needs, because hundreds of them fetch the program over mobile networks: tract, 11 MB of it (networks of other makers
# need a probe file then, `firmware-agent models probe`), and the broker inside `demo`. --features tract,broker has them.
#
# Needs cargo and Debian's packages (cross/toolchain.sh installs what is missing and says so). The program needs glibc
# 2.35 (JetPack 6, Debian 12), or this ends with an error. The feature gstreamer links the system's libraries: Debian 12's for arm64 are unpacked for it
# (cross/sysroot.sh).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
tools=target/cross
cross/toolchain.sh "$tools"
case "$*" in *gstreamer*) cross/sysroot.sh "$tools" ;; esac
# shellcheck disable=SC1091
source "$tools/env"
cargo build --locked --profile device --target aarch64-unknown-linux-gnu -p firmware-agent --no-default-features "$@"
file=target/aarch64-unknown-linux-gnu/device/firmware-agent
newest=$(readelf --version-info --wide "$file" | grep -oE 'GLIBC_[0-9.]+' | sort -Vu | tail -n 1)
printf '%s: %s bytes, needs %s\n' "$file" "$(stat -c %s "$file")" "$newest"
if [ "$(printf '%s\nGLIBC_2.35\n' "$newest" | sort -V | tail -n 1)" != GLIBC_2.35 ]; then
    echo "cross/build.sh: units with JetPack 6 have glibc 2.35, and this program needs $newest: build it on Debian 12 (or by cross, README)" >&2
    exit 1
fi
