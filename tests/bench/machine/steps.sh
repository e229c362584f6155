# What happens inside the bench machine; run.sh puts it beside the package. Everything goes to standard output, a line
# `RESULT name value unit` for each figure and `PASS name` or `FAIL name: why` for each thing that must hold.
# Two boots: the first installs, measures and is cut off in the middle of an event; the second finds what is left.
cd /host || exit 1
up() { cut -d' ' -f1 /proc/uptime; }
say() { echo "[$(up)] $*"; }
result() { echo "RESULT $*"; }
check() { # name, why not, command
    local name=$1 why=$2
    shift 2
    if "$@"; then echo "PASS $name"; else echo "FAIL $name: $why"; fi
}
log() { journalctl -u firmware-agent --no-pager -o cat "$@"; }
since() { echo "$(($(date +%s) - $1))"; }
# Waits up to $1 seconds until the rest says yes; prints how long it took.
wait_for() {
    local most=$1 begun
    begun=$(up)
    shift
    while ! "$@" >/dev/null 2>&1; do
        awk -v a="$begun" -v b="$(up)" -v m="$most" 'BEGIN { exit !(b - a > m) }' && return 1
        sleep 0.2
    done
    awk -v a="$begun" -v b="$(up)" 'BEGIN { printf "%.1f\n", b - a }'
}
said() { log | tail -n +"$1" | grep -q -- "$2"; }
lines() { log | wc -l; }
broker() {
    printf 'listener 1883 127.0.0.1\nallow_anonymous true\npersistence false\n' >/run/bench-mosquitto.conf
    mosquitto -c /run/bench-mosquitto.conf -d >/dev/null 2>&1
}
listen() { firmware-agent listen --broker mqtt://127.0.0.1:1883 --json >>/host/heard.jsonl 2>>/host/listen.log & }
heard() { grep -c "\"$1\"" /host/heard.jsonl 2>/dev/null || true; }
heard_more() { [ "$(heard "$1")" -gt "$2" ]; }

buses() {
    modprobe -a vcan can-raw cuse
    modprobe vivid n_devs=1 node_types=0x1
    ip link add vcan0 type vcan && ip link set vcan0 up
    udevadm settle
}

first() {
    say "modules"
    buses
    check modules "no camera" test -e /dev/video0
    v4l2-ctl -d /dev/video0 --list-framesizes=YUYV | head -n 4
    v4l2-ctl -d /dev/video0 --list-frameintervals=width=320,height=180,pixelformat=YUYV | head -n 8
    broker
    say "the package"
    begun=$(up)
    dpkg -i /host/*.deb 2>&1 | tail -n 6
    result install "$(awk -v a="$begun" -v b="$(up)" 'BEGIN { printf "%.1f", b - a }')" s
    systemctl stop firmware-agent
    check rmem_max "the package did not set it" sh -c '[ "$(sysctl -n net.core.rmem_max)" = 4194304 ]'
    check enabled "the unit is not enabled" systemctl is-enabled -q firmware-agent
    cp /host/unit.toml /host/demo.dbc /etc/firmware-agent/
    mkdir -p /etc/systemd/system/firmware-agent.service.d
    # A device of CUSE has a major number of its own, which the unit's list does not name.
    printf '[Service]\nDeviceAllow=/dev/i2c-9 rw\n' >/etc/systemd/system/firmware-agent.service.d/bench.conf
    systemctl daemon-reload
    check configuration "refused" sh -c 'firmware-agent check-config /etc/firmware-agent/unit.toml >/dev/null'
    systemd-analyze security --no-pager firmware-agent firmware-agent-student 2>/dev/null | grep -i overall
    /host/play_unit head_on 1 --lead-s 60 >/host/played-1.jsonl 2>/host/played-1.log &
    wait_for 20 test -e /dev/i2c-9 >/dev/null
    chmod 666 /dev/i2c-9
    i2ctransfer -y 9 w1@0x68 0x00 r1
    say "doctor"
    firmware-agent doctor --config /etc/firmware-agent/unit.toml --seconds 5 | tee /host/doctor.jsonl
    listen
    say "the service"
    systemctl start firmware-agent
    check active "not active" systemctl is-active -q firmware-agent
    wait_for 30 said 1 "first frame in the ring" >/dev/null
    log | grep "first frame" | tail -n 1
    sleep 12
    say "the crash"
    before=$(heard alert)
    took=$(wait_for 90 heard_more alert "$before") && check alert "none came" true || check alert "none came" false
    cat /host/played-1.jsonl
    wait_for 60 heard_more report 0 >/dev/null && check report "none came" true || check report "none came" false
    ls -la /var/lib/firmware-agent/evidence /var/lib/firmware-agent/evidence/lesser 2>/dev/null
    check evidence "no file" sh -c 'ls /var/lib/firmware-agent/evidence/*.mcap >/dev/null 2>&1'
    for f in /var/lib/firmware-agent/evidence/*.mcap; do firmware-agent inspect "$f" | head -n 40; done
    cp /var/lib/firmware-agent/evidence/*.mcap /host/ 2>/dev/null

    say "the bus goes down and comes back"
    n=$(lines)
    ip link set vcan0 down
    took=$(wait_for 20 said "$n" "CAN vcan0: is down") && result can_down_said "$took" s
    ip link set vcan0 up
    took=$(wait_for 40 said "$n" "CAN vcan0: is up after") && result can_back "$took" s
    check can_back "not taken up again" said "$n" "CAN vcan0: is up after"

    say "the camera goes and comes back"
    n=$(lines)
    v4l2-ctl -d /dev/video0 --set-ctrl disconnect=1
    took=$(wait_for 30 said "$n" "camera ") && result camera_gone_said "$took" s
    wait_for 20 modprobe -r vivid >/dev/null
    modprobe vivid n_devs=1 node_types=0x1 && udevadm settle
    took=$(wait_for 60 said "$n" "camera good") && result camera_back "$took" s
    check camera_back "not taken up again" said "$n" "camera good"

    say "the broker goes and comes back"
    pkill mosquitto && sleep 8
    before=$(heard health)
    broker
    took=$(wait_for 90 heard_more health "$before") && result broker_back "$took" s
    check broker_back "nothing came" heard_more health "$before"

    say "one minute alone"
    pid=$(systemctl show -P MainPID firmware-agent)
    cpu() { awk '{ print $14 + $15 }' "/proc/$pid/stat"; }
    a=$(cpu) && t=$(up)
    sleep 60
    awk -v a="$a" -v b="$(cpu)" -v s="$t" -v e="$(up)" 'BEGIN { printf "RESULT cpu %.1f %% of an emulated core\n", (b - a) / (e - s) }'
    grep -E "VmHWM|VmRSS|RssAnon|Threads" "/proc/$pid/status" | sed 's/^/RESULT memory /'

    say "stopped in order: what it counted until here"
    n=$(lines)
    systemctl stop firmware-agent
    log | tail -n +"$n" | grep -E "samples at|frames|fixes" | sed 's/^/RESULT counted /'
    grep -h '"health"' /host/heard.jsonl | tail -n 1

    say "20,000 CAN frames a second"
    # Twenty thousand is what the agent is made for; an emulated core sends what it can.
    systemctl start firmware-agent
    wait_for 30 said "$n" "first frame in the ring" >/dev/null
    sleep 5
    n=$(lines)
    before=$(cat /sys/class/net/vcan0/statistics/tx_packets)
    begun=$(up)
    timeout 60 cangen vcan0 -g 0 -I i -L 8 -D i -n 200000 -i
    sent=$(($(cat /sys/class/net/vcan0/statistics/tx_packets) - before))
    awk -v a="$begun" -v b="$(up)" -v n=$sent 'BEGIN { printf "RESULT can_rate %.0f frames/s\n", n / (b - a) }'

    sleep 3
    systemctl stop firmware-agent
    echo "sent $sent"
    log | tail -n +"$n" | grep -E "samples at|frames" | sed 's/^/RESULT counted under load /'
    systemctl start firmware-agent

    say "a hang is killed by the watchdog"
    sleep 5
    pid=$(systemctl show -P MainPID firmware-agent)
    kill -STOP "$pid"
    again() { p=$(systemctl show -P MainPID firmware-agent); [ "$p" != "$pid" ] && [ "$p" != 0 ]; }
    took=$(wait_for 150 again) && result watchdog_restart "$took" s
    check watchdog_restart "not started again" again
    journalctl --no-pager -o cat -u firmware-agent | grep -iE "watchdog" | tail -n 2
    say "SIGKILL"
    sleep 5
    pid=$(systemctl show -P MainPID firmware-agent)
    systemctl kill -s KILL firmware-agent
    took=$(wait_for 30 again) && result kill_restart "$took" s
    check kill_restart "not started again" again

    say "the power goes in the middle of an event, without a broker"
    pkill play_unit
    sleep 1
    pkill mosquitto
    pkill -f "firmware-agent listen"
    n=$(lines)
    /host/play_unit head_on 3 --lead-s 12 --i2c 9 >/host/played-2.jsonl 2>/host/played-2.log &
    wait_for 20 test -e /dev/i2c-9 >/dev/null && chmod 666 /dev/i2c-9
    sleep 1
    contact=$(sed -n 's/.*"contact_s": \([0-9.]*\).*/\1/p' /host/played-2.jsonl)
    while awk -v a="$(up)" -v c="$contact" 'BEGIN { exit !(a < c + 2.0) }'; do sleep 0.1; done
    say "2 s after contact: cut"
    log | tail -n 15
    sync -f /host
    echo "$(up)" >/host/cut
    # run.sh kills the machine now.
    sleep 60
    echo "FAIL cut: still running"
}

second() {
    say "after the power cut"
    buses
    broker
    n=$(heard alert)
    h=$(wc -l </host/heard.jsonl)
    listen
    systemctl restart firmware-agent
    check recovered "not active" systemctl is-active -q firmware-agent
    took=$(wait_for 60 heard_more alert "$n") && result alert_after_cut "$took" s
    check alert_after_cut "the alert of the event at the cut did not come" heard_more alert "$n"
    sleep 5
    say "alerts heard since"
    tail -n +"$((h + 1))" /host/heard.jsonl | grep '"alert"' | grep -oE '"(kind|severity|mono_ns|seq|revision)":[^,}]*' | paste -sd' '
    ls -la /var/lib/firmware-agent/evidence /var/lib/firmware-agent/evidence/lesser 2>/dev/null
    check evidence_after_cut "nothing was left of the event" sh -c 'ls /var/lib/firmware-agent/evidence/*.cut-*.mcap >/dev/null 2>&1'
    for f in /var/lib/firmware-agent/evidence/*.cut-*.mcap; do
        firmware-agent inspect "$f" | grep -E '"(count|from_s|to_s)"'
        cp "$f" /host/
    done
    cat /host/cut /host/played-2.jsonl
    log -b | tail -n 30
    systemctl stop firmware-agent
}

if [ -e /host/cut ]; then second; else first; fi
