#!/usr/bin/env bash
# Makes the bench machine: Debian 12 for aarch64 with Debian's own kernel, to be started by qemu without a real one.
#   tests/bench/machine/make.sh DIR
#
# Leaves in DIR: vmlinuz, initrd.gz, root.img (ext4), versions.txt. Needs root (it unpacks a file system with owners and
# device nodes), apt, binfmt_misc, and about 2 GB of disk. Takes minutes; done once, the image is started with
# snapshot=on and never changed. What it installs here: mmdebstrap, qemu, busybox.
# The kernel's package is unpacked, not installed: making its own initial file system takes forever in emulation.
set -euo pipefail
exec </dev/null
[ $# = 1 ] || { echo "usage: tests/bench/machine/make.sh DIR" >&2 && exit 2; }
mkdir -p "$1"
dir=$(cd "$1" && pwd)
suite=bookworm
say() { printf '== %s\n' "$*" >&2; }
stop() { printf 'make.sh: %s\n' "$*" >&2 && exit 2; }
[ "$(id -u)" = 0 ] || stop "run it as root"

missing=()
for pair in mmdebstrap:mmdebstrap qemu-system-aarch64:qemu-system-arm qemu-aarch64-static:qemu-user-static \
    qemu-img:qemu-utils depmod:kmod busybox:busybox-static cpio:cpio mke2fs:e2fsprogs update-binfmts:binfmt-support arch-test:arch-test; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
if [ ${#missing[@]} -gt 0 ]; then
    # Both from one release: otherwise apt takes a newer qemu-img away for an older qemu.
    missing+=(qemu-utils)
    say "installing with apt-get: ${missing[*]}"
    apt-get update -q >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}" >&2
fi
# Programs for aarch64 run here through qemu-user while the packages are set up.
[ -e /proc/sys/fs/binfmt_misc/status ] || mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
[ -e /proc/sys/fs/binfmt_misc/qemu-aarch64 ] || update-binfmts --enable qemu-aarch64
dpkg --print-foreign-architectures | grep -qx arm64 || { dpkg --add-architecture arm64 && apt-get update -q >&2; }

root=$dir/root
packages=systemd-sysv,udev,dbus,kmod,iproute2,can-utils,v4l-utils,i2c-tools,gpiod,mosquitto,init-system-helpers
packages+=,libgstreamer1.0-0,libgstreamer-plugins-base1.0-0,gstreamer1.0-plugins-base,gstreamer1.0-plugins-good
rm -rf "$root" && mkdir -p "$dir/kernel"
say "the file system ($suite, arm64)"
mmdebstrap --quiet --arch=arm64 --variant=minbase --include="$packages" \
    --aptopt='Apt::Install-Recommends "false"' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' "$suite" "$root" >&2

say "the kernel"
(
    cd "$dir/kernel"
    rm -f ./*.deb
    image=$(apt-cache depends linux-image-arm64:arm64 | sed -n 's/.*Depends: \(linux-image-[^:]*\).*/\1/p' | head -n 1)
    [ -n "$image" ] || stop "no kernel package for arm64: apt-get update"
    apt-get download -q "$image:arm64" >&2
    # Not over the file system itself: unpacking would put a folder in the place of the link /lib.
    dpkg -x ./*.deb unpacked
    cp unpacked/boot/vmlinuz-* "$dir/vmlinuz"
    mkdir -p "$root/usr/lib/modules"
    mv unpacked/lib/modules/* "$root/usr/lib/modules/"
)
release=$(basename "$root"/lib/modules/*)
modules=$root/lib/modules/$release/kernel
rm -rf "$modules"/drivers/{gpu,infiniband,isdn,net/ethernet,net/wireless,staging} "$modules"/sound \
    "$modules"/fs/{xfs,btrfs} "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*
depmod -b "$root" "$release"

say "the initial file system"
start=$(mktemp -d)
trap 'rm -rf "$start"' EXIT
mkdir -p "$start"/{bin,mod,proc,sys,dev,newroot}
# The machine's busybox must be one for aarch64.
(cd "$dir/kernel" && rm -f busybox*.deb && apt-get download -q busybox-static:arm64 >&2 && dpkg -x busybox-static*.deb "$start/b")
mv "$start"/b/bin/busybox "$start/bin/" && rm -rf "$start/b"
for module in virtio_mmio virtio_pci virtio_blk ext4 9pnet_virtio 9p; do
    modprobe -d "$root" -S "$release" --show-depends "$module" 2>/dev/null | awk '$1 == "insmod" { print $2 }'
done | awk '!seen[$0]++' | while read -r file; do
    cp "$file" "$start/mod/"
    basename "$file" >>"$start/mod/order"
done
cat >"$start/init" <<'END'
#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
for module in $(/bin/busybox cat /mod/order); do /bin/busybox insmod /mod/$module; done
n=0
while [ ! -b /dev/vda ] && [ $n -lt 100 ]; do /bin/busybox sleep 0.1; n=$((n + 1)); done
/bin/busybox mount -t ext4 -o rw /dev/vda /newroot
/bin/busybox umount /proc /sys
/bin/busybox mount --move /dev /newroot/dev
exec /bin/busybox switch_root /newroot /sbin/init
END
chmod +x "$start/init"
(cd "$start" && find . | cpio -o -H newc 2>/dev/null | gzip -1) >"$dir/initrd.gz"

say "what it does when it starts"
echo bench >"$root/etc/hostname"
: >"$root/etc/fstab"
mkdir -p "$root/host"
cat >"$root/etc/systemd/system/bench.service" <<'END'
[Unit]
Description=Steps of the bench
[Service]
Type=oneshot
StandardOutput=tty
StandardError=tty
TTYPath=/dev/console
ExecStart=/bin/sh -c 'mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 host /host; bash /host/steps.sh >/host/out.log 2>&1; echo "rc=$?" >>/host/out.log; sync; systemctl poweroff'
END
wants=$root/etc/systemd/system/multi-user.target.wants
mkdir -p "$wants"
ln -sf ../bench.service "$wants/bench.service"
# What takes time in emulation and nothing here needs. Mosquitto is started by the steps.
for unit in systemd-update-utmp.service apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service \
    getty@tty1.service serial-getty@ttyAMA0.service systemd-timesyncd.service mosquitto.service ldconfig.service \
    systemd-hwdb-update.service; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done

say "the image"
rm -f "$dir/root.img"
truncate -s 2G "$dir/root.img"
mke2fs -q -t ext4 -d "$root" "$dir/root.img"
{
    echo "kernel $release"
    echo "suite $suite"
    chroot "$root" dpkg-query -W systemd mosquitto can-utils
} >"$dir/versions.txt"
rm -rf "$root" "$dir/kernel"
say "done: $(du -sh "$dir" | cut -f1) in $dir"
