#!/bin/bash
# What happens under user-mode Linux; load.sh puts it beside the program. Lines of results as those of steps.sh.
export PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
cd /host || exit 1
exec >/host/out.log 2>&1
# shellcheck source=tests/bench/machine/common.sh
. /host/common.sh
for pair in proc:/proc sysfs:/sys tmpfs:/tmp tmpfs:/run devtmpfs:/dev; do mount -t "${pair%%:*}" none "${pair##*:}"; done
mkdir -p /dev/shm
# reboot(RB_POWER_OFF): nothing else here ends the machine.
trap 'sync; perl -e "syscall(169, 0xfee1dead, 672274793, 0x4321fedc, 0)"' EXIT
seconds=${seconds:-60} rate=${rate:-20000}

say "$(uname -srm)"
modprobe -a can-raw vcan cuse i2c-dev
ip link set lo up
ip link add vcan0 type vcan && ip link set vcan0 up
echo 4194304 >/proc/sys/net/core/rmem_max
broker
./play_unit head_on 1 --lead-s 20 >played.jsonl 2>played.log &
wait_for 20 test -e /dev/i2c-9 >/dev/null
firmware-agent() { ./firmware-agent "$@"; }
listen
begun=$(up)
./firmware-agent run --config unit.toml 2>run.log &
pid=$!
said() { grep -q "$1" run.log; }
until said "^CAN vcan0: is up" || ! at_most "$(between "$begun" "$(up)")" 20; do sleep 0.01; done
within to_bus "$(said "^CAN vcan0: is up" && between "$begun" "$(up)")" 2 "s from the start until the bus is heard"
wait_for 20 said "^IMU: " >/dev/null
sleep 2
jiffies() { awk '{ print $14 + $15 }' "/proc/$pid/stat"; }
before=$(jiffies) begun=$(up)

# So many frames every millisecond, late ones made up for.
python3 - "$seconds" "$rate" >sent.log <<'P'
import socket, struct, sys, time
seconds, rate = float(sys.argv[1]), int(sys.argv[2])
bus = socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW)
bus.bind(("vcan0",))
begun, sent = time.monotonic(), 0
while True:
    now = time.monotonic() - begun
    if now >= seconds:
        break
    for _ in range(int(now * rate) - sent):
        bus.send(struct.pack("=IB3xQ", 0x400 + sent % 512, 8, sent))
        sent += 1
    time.sleep(max(0.0, sent / rate + 0.001 - (time.monotonic() - begun)))
print(sent, sent / (time.monotonic() - begun))
P
read -r sent reached <sent.log
spent=$(($(jiffies) - before))
result load_rate "$(printf %.0f "$reached") CAN frames/s for $seconds s, besides the drive's"
check load_rate "$reached frames/s" at_least "$reached" "$((rate * 995 / 1000))"
awk -v n="$spent" -v s="$begun" -v e="$(up)" 'BEGIN { printf "RESULT load_cpu %.1f %% of a core\n", n / (e - s) }'
grep -E "VmHWM|VmRSS|RssAnon" "/proc/$pid/status" | sed 's/^/RESULT memory /'
# Until the drive is over: how many frames it sent is its last word.
wait_for 120 grep -q can_sent played.jsonl >/dev/null
driven=$(sed -nE 's/.*"can_sent": ([0-9]+).*/\1/p' played.jsonl)
sleep 5
check alert "none came" heard_more alert 0
check report "none came" heard_more report 0
ended=$(up)
kill "$pid" && wait "$pid"
grep -E "^(CAN|IMU|GNSS|unit:|rings)" run.log | tail -n 8
bus=$(grep -E '^CAN vcan0: [0-9]+ frames' run.log | tail -n 1)
heard_frames=$(sed -E 's/^CAN vcan0: ([0-9]+) .*/\1/' <<<"$bus")
result load_can "$((sent + ${driven:-0})) frames sent; $bus"
none_lost() { [ "$heard_frames" = "$((sent + ${driven:-0}))" ] && ! grep -q lost <<<"$bus"; }
check load_can_none_lost "$bus" none_lost
motion=$(grep -E '^IMU: [0-9]+ samples' run.log | tail -n 1)
result load_imu "${motion#IMU: }"
check load_imu_none_lost "${motion:-no word}" sh -c '[ -n "$0" ] && ! echo "$0" | grep -qE "lost|overw"' "$motion"
# The unit's own word, which has what its rings could not keep for an event, too.
own=$(grep '"health"' heard.jsonl | tail -n 1 | grep -o '"losses":{[^}]*}')
result load_own_word "$own"
check load_rings_kept_all "${own:-no health}" grep -q '"can":0,"frames":0,"gnss":0,"imu":0' <<<"$own"
if grep -qE '^kind = "(v4l2|usb)"' unit.toml; then
    frames=$(grep -E '^camera: [0-9]+ frames' run.log | tail -n 1)
    result load_camera "${frames#camera: } in $(between "$begun" "$ended") s"
    whole=$(awk -v s="$begun" -v e="$ended" 'BEGIN { printf "%d", 29.9 * (e - s) }')
    check load_camera_rate "${frames:-no word}" at_least "$(sed -E 's/^camera: ([0-9]+) .*/\1/' <<<"$frames")" "$whole"
    check load_camera_none_lost "${frames:-no word}" sh -c 'echo "$0" | grep -q "lost: 0 by the source, 0 damaged, 0 without room, 0 in"' "$frames"
fi
echo "PASS load_over"
