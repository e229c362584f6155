#!/usr/bin/env bash
# Makes the Debian package of an architecture: cross/package.sh amd64 | arm64 | native [cargo options]; native is for the machine at hand
#
# arm64 and native are for units, without tract and the broker of `demo` (cross/build.sh says why); amd64 is for the bench and for engineers,
# with them.
#
# Needs cargo-deb (cargo install --locked cargo-deb). Writes target/debian/*.deb, or target/aarch64-unknown-linux-gnu/debian.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
case "${1:-}" in
amd64) shift && exec cargo deb --locked --profile device -p firmware-agent -- "$@" ;;
native) shift && exec cargo deb --locked --profile device -p firmware-agent -- --no-default-features "$@" ;;
arm64)
    shift
    cross/build.sh "$@"
    variant=cross
    case "$*" in *gstreamer*) variant=cross-gstreamer ;; esac
    exec cargo deb --locked --no-build --no-strip --profile device --target aarch64-unknown-linux-gnu -p firmware-agent --variant "$variant"
    ;;
*) echo "usage: cross/package.sh amd64 | arm64 | native [cargo options]" >&2 && exit 2 ;;
esac
