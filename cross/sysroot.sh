#!/usr/bin/env bash
# Gives a build for aarch64 the system's libraries that its features link (gstreamer), as the image of Dockerfile does, in one folder:
#   cross/sysroot.sh DIR
#
# Debian 12's arm64 packages are unpacked into DIR/sysroot, not installed: nothing of them is run, and the system stays as it
# is. Needs mmdebstrap (installed if it is missing) and Debian's archive. Adds to DIR/env, which cross/toolchain.sh wrote.
set -euo pipefail
exec </dev/null
[ $# = 1 ] && [ -e "$1/env" ] || { echo "usage: cross/sysroot.sh DIR, after cross/toolchain.sh DIR" >&2 && exit 2; }
dir=$(cd "$1" && pwd)
root=$dir/sysroot
say() { printf '== %s\n' "$*" >&2; }
as_root=()
[ "$(id -u)" = 0 ] || as_root=(sudo)
for pair in mmdebstrap:mmdebstrap pkg-config:pkg-config; do
    command -v "${pair%%:*}" >/dev/null && continue
    say "installing with apt-get: ${pair##*:}"
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${pair##*:}" >&2
done
if [ ! -e "$root/usr/lib/aarch64-linux-gnu/pkgconfig/gstreamer-video-1.0.pc" ]; then
    say "unpacking Debian 12's GStreamer for arm64 into $root"
    rm -rf "$root" "$root.part"
    mmdebstrap --quiet --arch=arm64 --variant=extract --include=libgstreamer1.0-dev,libgstreamer-plugins-base1.0-dev \
        --aptopt='Apt::Install-Recommends "false"' bookworm "$root.part" http://deb.debian.org/debian >&2
    mv "$root.part" "$root"
fi
cat >"$dir/linker" <<END
#!/bin/sh
exec aarch64-linux-gnu-gcc "--sysroot=$root" "\$@"
END
chmod +x "$dir/linker"
cat >>"$dir/env" <<END
export PKG_CONFIG_ALLOW_CROSS=1 PKG_CONFIG_SYSROOT_DIR="$root"
export PKG_CONFIG_LIBDIR="$root/usr/lib/aarch64-linux-gnu/pkgconfig:$root/usr/share/pkgconfig"
END
