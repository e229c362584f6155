# shellcheck shell=bash
# What happens inside the bench machine; run.sh puts it beside the package. Everything goes to standard output, a line
# `RESULT name value unit` for each figure and `PASS name` or `FAIL name: why` for each thing that must hold.
# Two boots: the first installs, measures and is cut off in the middle of an event; the second finds what is left.
cd /host || exit 1
own=/etc/firmware-agent
kept=/var/lib/firmware-agent/evidence
# shellcheck source=tests/bench/machine/common.sh
. /host/common.sh
log() { journalctl -u firmware-agent --no-pager -o cat "$@"; }
lines() { log | wc -l; }
after() { log | tail -n +"$(($1 + 1))"; }
said() { after "$1" | grep -q -- "$2"; }
ears() { wc -l </host/heard.jsonl; }
# Messages after line $1 that have each of the rest.
heard_all() {
    local text part
    text=$(tail -n +"$(($1 + 1))" /host/heard.jsonl)
    shift
    for part in "$@"; do text=$(grep -F -- "$part" <<<"$text") || return 1; done
    echo "$text"
}
# The first alert after line $1 as `boot seq`.
event_after() {
    local event
    event=$(heard_all "$1" '"alert"' | head -n 1 | grep -oE '"event":\{[^}]*\}' | head -n 1)
    [ -n "$event" ] || return 1
    number() { sed -E "s/.*\"$1\":([0-9]+).*/\1/" <<<"$event"; }
    echo "$(number boot) $(number seq)"
}
# How often the first alert, or the report, of event $2 $3 came after line $1 and was not marked as a duplicate.
alerts_of() { heard_all "$1" '"alert"' '"revision":0' '"duplicate":false' "\"boot\":$2," "\"seq\":$3," | wc -l; }
reports_of() { heard_all "$1" '"report"' '"duplicate":false' "\"boot\":$2," "\"seq\":$3," | wc -l; }
once() { [ "$("$@")" = 1 ]; }
# Files of event $1 $2: whole, or what the journal had of it.
files_of() { compgen -G "$kept/$(printf 'bench-unit_%08d_%06d' "$1" "$2")*.mcap"; }
# What a daemon that was stopped after line $1 says of its bus; whether that is all of $2 frames.
of_bus() { after "$1" | grep -E '^CAN vcan0: [0-9]+ frames' | tail -n 1; }
frames_of() { of_bus "$1" | sed -E 's/^CAN vcan0: ([0-9]+) .*/\1/'; }
# Those heard and those that were lost and told.
told_of() {
    local lost
    lost=$(of_bus "$1" | grep -oE '[0-9]+ lost' | head -n 1)
    echo $(($(frames_of "$1") + 10#0${lost%% *}))
}
all_heard() { [ "$(frames_of "$1")" = "$2" ] && ! of_bus "$1" | grep -q lost; }
main_pid() { systemctl show -P MainPID firmware-agent; }
again() { local p && p=$(main_pid) && [ "$p" != "$1" ] && [ "$p" != 0 ]; }
is_active() { systemctl is-active -q "$1"; }

buses() {
    modprobe -a vcan can-raw cuse
    modprobe vivid n_devs=1 node_types=0x1
    check gpio_chip "none" test -e /dev/gpiochip0
    ip link add vcan0 type vcan && ip link set vcan0 up
    udevadm settle
}

# A drive of seed $1 that begins in $2 seconds, as number $3. The motion sensor is there at once.
play() {
    pkill -CONT play_unit
    pkill play_unit && sleep 1
    /host/play_unit head_on "$1" --lead-s "$2" >"/host/played-$3.jsonl" 2>"/host/played-$3.log" &
    wait_for 20 test -e /dev/i2c-9 >/dev/null
    chmod 666 /dev/i2c-9
}

exposure() {
    local unit level
    for unit in firmware-agent firmware-agent-student; do
        level=$(systemd-analyze security --no-pager $unit 2>/dev/null | sed -n 's/.*exposure level for [^:]*: \([0-9.]*\).*/\1/p')
        within "exposure_of_$unit" "$level" 2.0 "(systemd-analyze security)"
    done
}

install() {
    say "the package"
    local begun
    begun=$(up)
    dpkg -i /host/*.deb 2>&1 | tail -n 6
    result install "$(between "$begun" "$(up)")" s
    systemctl stop firmware-agent
    check rmem_max "the package did not set it" sh -c '[ "$(sysctl -n net.core.rmem_max)" = 4194304 ]'
    check enabled "the unit is not enabled" systemctl is-enabled -q firmware-agent
    cp /host/unit.toml /host/demo.dbc $own/
    mkdir -p /etc/systemd/system/firmware-agent.service.d
    # A device of CUSE has a major number of its own, which the unit's list does not name.
    printf '[Service]\nDeviceAllow=/dev/i2c-9 rw\n' >/etc/systemd/system/firmware-agent.service.d/bench.conf
    systemctl daemon-reload
    check configuration "refused" sh -c "firmware-agent check-config $own/unit.toml >/dev/null"
    exposure
    say "the package once more, over files that were edited"
    echo "# edited on this unit" >>$own/student.env
    sha256sum $own/unit.toml $own/student.env >/run/edited
    dpkg -i /host/*.deb 2>&1 </dev/null | tail -n 3
    check edited_files_stay "the package changed them" sha256sum -c --quiet /run/edited
    check reinstalled_runs "not active" is_active firmware-agent
    systemctl stop firmware-agent
}

look() {
    i2ctransfer -y 9 w1@0x68 0x00 r1
    say "doctor"
    firmware-agent doctor --config $own/unit.toml --seconds 5 | tee /host/doctor.jsonl
    say "record"
    timeout 30 cangen vcan0 -g 10 -I 7A0 -L 8 -n 700 &
    firmware-agent record --config $own/unit.toml --out /run/drive.mcap --seconds 8
    firmware-agent inspect --json /run/drive.mcap >/host/recorded.json
    local pair kind least count
    for pair in frames:200 can:400 imu:4000; do
        kind=${pair%:*} least=${pair#*:}
        count=$(sed -nE "s/.*\"$kind\":\{\"count\":([0-9]+).*/\1/p" /host/recorded.json)
        result "record_$kind ${count:-0} in 8 s"
        check "record_$kind" "less than $least" at_least "$count" "$least"
    done
}

# From systemd's exec to the first frame in the ring.
to_first_frame() {
    local from to
    from=$(systemctl show -P ExecMainStartTimestampMonotonic firmware-agent)
    to=$(log -o short-monotonic | grep "first frame" | tail -n 1 | sed -E 's/^\[ *([0-9.]+)\].*/\1/')
    awk -v a="$from" -v b="$to" 'BEGIN { if (b != "") printf "%.2f", b - a / 1e6 }'
}

start() {
    say "the service"
    local n
    n=$(lines)
    systemctl start firmware-agent
    check active "not active" is_active firmware-agent
    wait_for 30 said "$n" "first frame in the ring" >/dev/null
    log | grep "first frame" | tail -n 1
    # The goal of 2 s is one for a board, ten to twenty times as fast.
    within to_first_frame "$(to_first_frame)" 10 s
}

crash() {
    say "the crash"
    local before
    before=$(heard alert)
    wait_for 90 heard_more alert "$before" >/dev/null
    check alert "none came" heard_more alert "$before"
    cat /host/played-1.jsonl
    wait_for 60 heard_more report 0 >/dev/null
    check report "none came" heard_more report 0
    check sensors_good "no health says so of all four" heard_all 0 '"camera":"good"' '"can":"good"' '"imu":"good"' '"gnss":"good"'
    ls -la $kept $kept/lesser 2>/dev/null
    check evidence "no file" compgen -G "$kept/*.mcap"
    for f in $kept/*.mcap; do firmware-agent inspect "$f" | head -n 40; done
    cp $kept/*.mcap /host/ 2>/dev/null
    # The bus is left alone until the drive is over, so that each of its frames can be counted.
    wait_for 60 grep -q can_sent /host/played-1.jsonl >/dev/null
}

bus_faults() {
    say "the bus goes down and comes back"
    local n took
    n=$(lines)
    ip link set vcan0 down
    took=$(wait_for 20 said "$n" "CAN vcan0: is down") && result can_down_said "$took" s
    ip link set vcan0 up
    took=$(wait_for 40 said "$n" "CAN vcan0: is up after") && result can_back "$took" s
    check can_back "not taken up again" said "$n" "CAN vcan0: is up after"
    say "error frames: bus-off, and restarted"
    n=$(lines)
    cansend vcan0 "20000040#0000000000000000"
    took=$(wait_for 10 said "$n" "CAN vcan0: bus-off")
    within bus_off_said "$took" 5 s
    cansend vcan0 "20000100#0000000000000000"
    took=$(wait_for 10 said "$n" "CAN vcan0: back from bus-off")
    within bus_off_over_said "$took" 5 s
}

# The camera's picture made so by the controls $2: log and health say $1.
picture() {
    local n h
    n=$(lines) h=$(ears)
    v4l2-ctl -d /dev/video0 --set-ctrl "$2"
    within "camera_$1_said" "$(wait_for 40 said "$n" "camera $1")" 15 s
    wait_for 20 heard_all "$h" '"health"' "\"camera\":\"$1\"" >/dev/null
    check "camera_$1_heard" "no health message has it" heard_all "$h" '"health"' "\"camera\":\"$1\""
}

camera_faults() {
    say "the camera goes and comes back"
    local n took
    n=$(lines)
    v4l2-ctl -d /dev/video0 --set-ctrl disconnect=1
    took=$(wait_for 30 said "$n" "camera ") && result camera_gone_said "$took" s
    wait_for 20 modprobe -r vivid >/dev/null
    modprobe vivid n_devs=1 node_types=0x1 && udevadm settle
    took=$(wait_for 60 said "$n" "camera good") && result camera_back "$took" s
    check camera_back "not taken up again" said "$n" "camera good"
    say "the camera is black"
    sleep 2
    # Pattern 5 is black; the text over it is switched off.
    picture black osd_text_mode=2,test_pattern=5
    picture good osd_text_mode=0,test_pattern=0
}

broker_fault() {
    say "the broker goes and comes back"
    local before took
    pkill mosquitto && sleep 8
    before=$(heard health)
    broker
    took=$(wait_for 90 heard_more health "$before")
    # Health comes every ten seconds.
    within broker_back "$took" 15 s
}

alone() {
    say "most of a minute alone"
    local pid a t
    pid=$(main_pid)
    cpu() { awk '{ print $14 + $15 }' "/proc/$pid/stat"; }
    a=$(cpu) && t=$(up)
    sleep 40
    awk -v a="$a" -v b="$(cpu)" -v s="$t" -v e="$(up)" 'BEGIN { printf "RESULT cpu %.1f %% of an emulated core\n", (b - a) / (e - s) }'
    grep -E "VmHWM|VmRSS|RssAnon|Threads" "/proc/$pid/status" | sed 's/^/RESULT memory /'
    say "stopped in order: what it counted until here"
    local n sent
    n=$(lines)
    systemctl stop firmware-agent
    after "$n" | grep -E "samples at|frames|fixes" | sed 's/^/RESULT counted /'
    heard_all 0 '"health"' | tail -n 1
    sent=$(sed -nE 's/.*"can_sent": ([0-9]+).*/\1/p' /host/played-1.jsonl)
    result "can_drive ${sent:-no} frames sent, $(frames_of "$n") heard"
    check can_drive_none_lost "$(of_bus "$n")" all_heard "$n" "${sent:-none}"
}

can_load() {
    say "CAN frames as fast as they can be sent"
    # Twenty thousand a second is what the agent is made for (load.sh); two emulated cores that are busy may lose some, and say so.
    local n before begun sent
    n=$(lines)
    systemctl start firmware-agent
    wait_for 30 said "$n" "first frame in the ring" >/dev/null
    sleep 5
    before=$(cat /sys/class/net/vcan0/statistics/tx_packets)
    begun=$(up)
    timeout 40 cangen vcan0 -g 0 -I i -L 8 -D i -n 200000 -i
    sent=$(($(cat /sys/class/net/vcan0/statistics/tx_packets) - before))
    awk -v a="$begun" -v b="$(up)" -v n=$sent 'BEGIN { printf "RESULT can_rate %.0f frames/s\n", n / (b - a) }'
    sleep 3
    n=$(lines)
    systemctl stop firmware-agent
    after "$n" | grep -E "samples at|frames" | sed 's/^/RESULT counted under load /'
    result "can_load $sent frames sent: $(of_bus "$n")"
    check can_load_counted "$(of_bus "$n")" [ "$(told_of "$n")" = "$sent" ]
}

watchdog() {
    say "a hang is killed by the watchdog"
    local pid
    systemctl start firmware-agent
    sleep 5
    pid=$(main_pid)
    kill -STOP "$pid"
    # The stage's limit (5 s for the core) and the watchdog's time (10 s).
    local n
    n=$(lines)
    within watchdog_restart "$(wait_for 60 again "$pid")" 15 s
    wait_for 30 said "$n" "first frame in the ring" >/dev/null
    log | grep -iE "watchdog" | tail -n 2
}

# Line $1 of the machine's PL061 has level $2 from here on; run.sh does it.
drive() {
    echo "$1 $2" >/host/driven && mv /host/driven /host/drive
    wait_for 10 test ! -e /host/drive >/dev/null
}
lamp_is() { grep -q "firmware-agent *) *out $1" /sys/kernel/debug/gpio; }

gpio() {
    say "the panic button, the lamp, the ignition"
    local n h pid
    grep -A 8 gpiochip /sys/kernel/debug/gpio
    check lamp_lit "not lit while it records" lamp_is hi
    h=$(ears) n=$(lines)
    drive 2 1
    within panic_alert "$(wait_for 30 heard_all "$h" '"alert"' '"severe"')" 5 s
    drive 2 0
    say "event $(event_after "$h")"
    h=$(ears) n=$(lines) pid=$(main_pid)
    drive 4 1
    within ignition_off_said "$(wait_for 30 said "$n" "the ignition is off: finishing")" 10 s
    # What is open is finished within 20 s; the service manager waits one.
    within ignition_off_ended "$(wait_for 60 again "$pid")" 30 s
    within parked "$(wait_for 30 said "$n" "waiting for it, recording nothing")" 10 s
    check parked_active "not active" is_active firmware-agent
    n=$(lines) pid=$(main_pid)
    sleep 12
    check parked_stays "started again" [ "$(main_pid)" = "$pid" ]
    check parked_records_nothing "it does" sh -c "[ $(after "$n" | grep -c 'first frame') = 0 ]"
    drive 4 0
    within ignition_on_records "$(wait_for 30 said "$n" "first frame in the ring")" 10 s
    check lamp_lit_again "not lit" wait_for 5 lamp_is hi
    log | tail -n 12
}

# The worker by its socket: asked for by the daemon's configuration, started by the daemon's first connection.
student() {
    say "the student's worker"
    play 2 45 2
    { cat /host/unit.toml && printf '\n[student]\nconnect = "/run/firmware-agent-student/worker.sock"\ndeadline_s = 60.0\n'; } >$own/unit.toml
    systemctl restart firmware-agent
    wait_for 30 is_active firmware-agent-student >/dev/null
    check student_active "not active" is_active firmware-agent-student
    # The watchdog's time is 10 s: who is not fed is killed.
    sleep 15
    check student_fed "not active, or started again" sh -c \
        'systemctl is-active -q firmware-agent-student && [ "$(systemctl show -P NRestarts firmware-agent-student)" = 0 ]'
    journalctl -u firmware-agent-student --no-pager -o cat | tail -n 8
}

killed_in_an_event() {
    say "SIGKILL in the middle of an event"
    local h pid event report
    h=$(ears)
    wait_for 90 heard_all "$h" '"alert"' >/dev/null
    sleep 1
    pid=$(main_pid)
    systemctl kill -s KILL firmware-agent
    within kill_restart "$(wait_for 30 again "$pid")" 5 s
    event=$(event_after "$h")
    say "event ${event:-none}"
    # shellcheck disable=SC2086
    if [ -n "$event" ]; then
        report=$(wait_for 100 once reports_of "$h" $event)
        within report_after_kill "$report" 90 s
        check alert_once_after_kill "came $(alerts_of "$h" $event) times" once alerts_of "$h" $event
        check evidence_after_kill "no file of the event" files_of $event
        heard_all "$h" '"report"' | grep -oE '"student":\{"[a-z]*":("[a-z_]*")?' | sed 's/^/RESULT student of the killed event /'
    else
        check killed_event "no alert came" false
    fi
    ls -la $kept
}

# The player stands still, and with it the kernel's I2C calls: the driver hangs, and the thread in it cannot be killed.
hung_sensor() {
    say "a sensor's driver hangs, for good"
    local n h pid
    play 4 900 3
    cp /host/unit.toml $own/unit.toml
    n=$(lines)
    systemctl restart firmware-agent
    systemctl stop firmware-agent-student
    # A job that it could not break off ends it with 1, which is what the unit's restarts are for.
    result student_ended "$(systemctl show -P Result firmware-agent-student)"
    check student_ends "still active" sh -c '! systemctl is-active -q firmware-agent-student'
    wait_for 30 said "$n" "IMU: " >/dev/null
    sleep 5
    n=$(lines) pid=$(main_pid)
    pkill -STOP play_unit
    # The stage's limit is 15 s.
    within hung_sensor_said \
        "$(wait_for 60 said "$n" "the imu stage hangs in its driver, and no start would help; recording goes on without it")" 25 s
    h=$(ears)
    # Longer than the watchdog's time.
    sleep 15
    check hung_sensor_no_restart "started again" [ "$(main_pid)" = "$pid" ]
    check hung_sensor_active "not active" is_active firmware-agent
    check hung_sensor_records "no health says that the camera is good and the sensor is not heard" \
        heard_all "$h" '"health"' '"camera":"good"' '"imu":"silent"'
    h=$(ears) n=$(lines)
    pkill -CONT play_unit
    within hung_sensor_over "$(wait_for 60 said "$n" "the imu stage gets on again")" 10 s
    wait_for 30 heard_all "$h" '"health"' '"imu":"good"' >/dev/null
    check hung_sensor_back "no health says so" heard_all "$h" '"health"' '"imu":"good"'
    log | tail -n 12
}

power_cut() {
    say "the power goes in the middle of an event, without a broker"
    local contact
    pkill mosquitto
    pkill -f "firmware-agent listen"
    play 3 12 4
    sleep 1
    contact=$(sed -n 's/.*"contact_s": \([0-9.]*\).*/\1/p' /host/played-4.jsonl)
    while ! at_least "$(up)" "$(awk -v c="$contact" 'BEGIN { print c + 2 }')"; do sleep 0.1; done
    say "2 s after contact: cut"
    log | tail -n 15
    sync -f /host
    up >/host/cut
    # run.sh kills the machine now.
    sleep 60
    echo "FAIL cut: still running"
}

first() {
    say "modules"
    buses
    check modules "no camera" test -e /dev/video0
    v4l2-ctl -d /dev/video0 --list-framesizes=YUYV | head -n 4
    v4l2-ctl -d /dev/video0 --list-frameintervals=width=320,height=180,pixelformat=YUYV | head -n 8
    broker
    install
    play 1 75 1
    look
    listen
    start
    crash
    bus_faults
    camera_faults
    broker_fault
    alone
    can_load
    watchdog
    gpio
    student
    killed_in_an_event
    hung_sensor
    power_cut
}

second() {
    say "after the power cut"
    # It starts with the machine: nothing is to go out before somebody listens.
    check recovered_at_boot "it was never ready" wait_for 60 is_active firmware-agent
    systemctl stop firmware-agent
    buses
    broker
    local h event took
    h=$(ears)
    listen
    systemctl restart firmware-agent
    check recovered "not active" is_active firmware-agent
    took=$(wait_for 60 heard_all "$h" '"alert"')
    within alert_after_cut "$took" 60 s
    sleep 5
    say "alerts heard since"
    heard_all "$h" '"alert"' | grep -oE '"(kind|severity|mono_ns|boot|seq|revision)":[^,}]*' | paste -sd' '
    event=$(event_after "$h")
    ls -la $kept $kept/lesser 2>/dev/null
    # shellcheck disable=SC2086
    if [ -n "$event" ]; then
        check alert_once_after_cut "came $(alerts_of "$h" $event) times" once alerts_of "$h" $event
        check evidence_after_cut "nothing was left of the event" files_of $event
        wait_for 30 once reports_of "$h" $event >/dev/null
        check report_after_cut "the report that was owed did not come" once reports_of "$h" $event
        for f in $(files_of $event); do
            firmware-agent inspect "$f" | grep -E '"(count|from_s|to_s)"'
            cp "$f" /host/
        done
    fi
    cat /host/cut /host/played-4.jsonl
    log -b | tail -n 30
    systemctl stop firmware-agent
}

if [ -e /host/cut ]; then second; else first; fi
