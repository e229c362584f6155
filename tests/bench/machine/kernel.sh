#!/usr/bin/env bash
# A kernel for load.sh that also has vivid, the kernel's own test camera, which Debian's user-mode Linux leaves out: Debian's newest
# source, unchanged but for 250 ticks a second (as Debian's arm64 has them; user-mode Linux has 100, and vivid's frames come at ticks).
#   tests/bench/machine/kernel.sh DIR
#
# Needs a C compiler, make, flex, bison, bc (installed if they are missing), 2 GB of disk and ten minutes of two cores. Makes DIR/linux.uml.
set -euo pipefail
exec </dev/null
[ $# = 1 ] || { echo "usage: tests/bench/machine/kernel.sh DIR" >&2 && exit 2; }
mkdir -p "$1"
dir=$(cd "$1" && pwd)
say() { printf '== %s\n' "$*" >&2; }
stop() { printf 'kernel.sh: %s\n' "$*" >&2 && exit 2; }
[ ! -x "$dir/linux.uml" ] || { say "$dir/linux.uml is there" && exit 0; }
missing=()
for program in gcc make flex bison bc xz; do command -v $program >/dev/null || missing+=("${program/#xz/xz-utils}"); done
if [ ${#missing[@]} -gt 0 ]; then
    say "installing with apt-get: ${missing[*]}"
    as_root=()
    [ "$(id -u)" = 0 ] || as_root=(sudo)
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}" >&2
fi

source=$(compgen -G "$dir/linux-source-*/Makefile" | sort -V | tail -n 1) || true
if [ -z "$source" ]; then
    mirror=http://deb.debian.org/debian
    package=$(curl -sSf $mirror/dists/sid/main/binary-amd64/Packages.xz | xz -dc |
        awk '/^Package: /{ours = $2 ~ /^linux-source-[0-9.]+$/} ours && /^Filename: /{print $2}' | sort -V | tail -n 1)
    [ -n "$package" ] || stop "no package linux-source in sid"
    say "$package"
    curl -sSf -o "$dir/source.deb" "$mirror/$package"
    dpkg -x "$dir/source.deb" "$dir/package"
    tar -C "$dir" -xf "$dir"/package/usr/src/linux-source-*.tar.xz
    rm -rf "$dir/source.deb" "$dir/package"
    source=$(compgen -G "$dir/linux-source-*/Makefile" | sort -V | tail -n 1)
fi
cd "$(dirname "$source")"
sed -i '/^config HZ$/,/default/s/default 100/default 250/' arch/um/Kconfig
make -s ARCH=um x86_64_defconfig
# Memory and DMA of devices, which vivid wants, come with user-mode Linux's PCI.
./scripts/config --enable VIRTIO_UML --enable UML_PCI_OVER_VIRTIO --set-val UML_PCI_OVER_VIRTIO_DEVICE_ID 4660 \
    --enable MEDIA_SUPPORT --enable MEDIA_SUPPORT_FILTER --enable MEDIA_TEST_SUPPORT --enable V4L_TEST_DRIVERS --enable VIDEO_VIVID \
    --enable CAN --enable CAN_RAW --enable CAN_DEV --enable CAN_VCAN --enable FUSE_FS --enable CUSE --enable I2C --enable I2C_CHARDEV \
    --enable HOSTFS --enable TMPFS --enable DEVTMPFS --enable INET --enable NETDEVICES --enable NET_CORE --enable UNIX98_PTYS \
    --disable SOUND --disable DRM --disable USB_SUPPORT --enable DEBUG_INFO_NONE
make -s ARCH=um olddefconfig
grep -q '^CONFIG_VIDEO_VIVID=y' .config || stop "this source takes no vivid"
say "compiling $(make -s ARCH=um kernelversion)"
make -s ARCH=um -j"$(nproc)" vmlinux >&2
cp vmlinux "$dir/linux.uml"
say "$dir/linux.uml"
