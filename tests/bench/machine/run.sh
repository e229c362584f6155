#!/usr/bin/env bash
# The installed product in a virtual machine with Debian's own kernel: camera, CAN, IMU, GNSS, faults, a power cut.
#   tests/bench/machine/run.sh DIR
#
# Needs root, qemu and what make.sh installs; makes the machine in DIR/machine if it is not there. Takes the arm64 package
# of cross/package.sh and the player (. target/cross/env && cargo build --profile device --target aarch64-unknown-linux-gnu
# -p agent-sim --example play_unit), both from target/. Drives the machine's GPIO lines (a PL061's): the steps write
# `LINE LEVEL` into share/drive. Leaves what the machine said, in DIR out-1.log and out-2.log, in DIR/share doctor.jsonl,
# heard.jsonl, evidence. Ends with the table of results; exit code 1 if anything failed.
set -euo pipefail
exec </dev/null
[ $# = 1 ] || { echo "usage: tests/bench/machine/run.sh DIR" >&2 && exit 2; }
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
here=tests/bench/machine
mkdir -p "$1"
dir=$(cd "$1" && pwd)
target=target/aarch64-unknown-linux-gnu
say() { printf '== %s\n' "$*" >&2; }
stop() { printf 'run.sh: %s\n' "$*" >&2 && exit 2; }

deb=$(ls -t $target/debian/*_arm64.deb 2>/dev/null | head -n 1) || true
[ -n "$deb" ] || stop "no package: cross/package.sh arm64 --features v4l2"
player=$target/device/examples/play_unit
[ -x "$player" ] || stop "no player: see the head of this file"
[ -e "$dir/machine/root.img" ] || $here/make.sh "$dir/machine"

share=$dir/share
rm -rf "$share" && mkdir -p "$share"
cp "$deb" "$player" $here/common.sh $here/steps.sh $here/unit.toml firmware-agent/sim/assets/demo.dbc "$share/"
disk=$dir/disk.qcow2
rm -f "$disk"
qemu-img create -q -f qcow2 -F raw -b "$dir/machine/root.img" "$disk"

# /dev/kvm may be there and hang.
qemu=(qemu-system-aarch64 -accel "tcg,thread=multi" -M virt -cpu "max,pauth-impdef=on" -smp 2 -m 1536 -display none -nic none)
chip=$(printf 'info qom-tree\nquit\n' | timeout 60 "${qemu[@]}" -S -serial null -monitor stdio 2>/dev/null |
    sed -n 's|.*/\(device\[[0-9]*\]\) (pl061).*|\1|p' | head -n 1)
[ -n "$chip" ] || stop "this qemu shows no PL061"
# QEMU's test protocol: commands go in; its answers stay in the other pipe.
rm -f "$dir"/qtest.{in,out} && mkfifo "$dir/qtest.in" "$dir/qtest.out"
exec 9<>"$dir/qtest.in"

# Starts the machine and waits for its end, or for the cut.
boot() {
    timeout "${LIMIT_S:-1500}" "${qemu[@]}" \
        -serial "file:$dir/console-$1.log" -monitor none -no-reboot -qtest "pipe:$dir/qtest" -qtest-log /dev/null \
        -kernel "$dir/machine/vmlinuz" -initrd "$dir/machine/initrd.gz" \
        -append "console=ttyAMA0 panic=-1 quiet" \
        -drive "file=$disk,if=virtio,format=qcow2,cache=writethrough" \
        -virtfs "local,path=$share,mount_tag=host,security_model=none" &
    machine=$!
    while kill -0 $machine 2>/dev/null; do
        if [ "$1" = 1 ] && [ -e "$share/cut" ]; then
            say "power cut"
            pkill -KILL -P $machine || true
            kill -KILL $machine 2>/dev/null || true
        fi
        if [ -e "$share/drive" ]; then
            read -r line level <"$share/drive" || true
            printf 'set_irq_in /machine/unattached/%s unnamed-gpio-in %d %d\n' "$chip" "$line" "$level" >&9
            rm "$share/drive"
        fi
        sleep 0.2
    done
    wait $machine 2>/dev/null || true
    cp "$share/out.log" "$dir/out-$1.log" 2>/dev/null || stop "the machine said nothing: $dir/console-$1.log"
}

begun=$SECONDS
say "first boot"
boot 1
say "second boot"
boot 2
say "$((SECONDS - begun)) s"
grep -hE '^(RESULT|PASS|FAIL)' "$dir"/out-[12].log
! grep -qh '^FAIL' "$dir"/out-[12].log
