# Shared by steps.sh and load-steps.sh: results, bounds, waiting, the broker and who listens to it.
# shellcheck shell=bash
up() { cut -d' ' -f1 /proc/uptime; }
say() { echo "[$(up)] $*"; }
result() { echo "RESULT $*"; }
check() { # name, why not, command
    local name=$1 why=$2
    shift 2
    if "$@"; then echo "PASS $name"; else echo "FAIL $name: $why"; fi
}
at_most() { awk -v v="$1" -v m="$2" 'BEGIN { exit !(v != "" && v + 0 <= m + 0) }'; }
at_least() { awk -v v="$1" -v m="$2" 'BEGIN { exit !(v != "" && v + 0 >= m + 0) }'; }
between() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", b - a }'; }
within() { # name, value (nothing: it never came), bound, unit
    result "$1 ${2:-never} $4"
    check "$1" "${2:-never}, at most $3 $4" at_most "$2" "$3"
}
# Waits up to $1 seconds until the rest says yes; prints how long it took.
wait_for() {
    local most=$1 begun
    begun=$(up)
    shift
    while ! "$@" >/dev/null 2>&1; do
        at_most "$(between "$begun" "$(up)")" "$most" || return 1
        sleep 0.2
    done
    between "$begun" "$(up)"
}
broker() {
    printf 'listener 1883 127.0.0.1\nallow_anonymous true\npersistence false\n' >/run/bench-mosquitto.conf
    mosquitto -c /run/bench-mosquitto.conf -d >/dev/null 2>&1
}
listen() { firmware-agent listen --broker mqtt://127.0.0.1:1883 --json >>/host/heard.jsonl 2>>/host/listen.log & }
heard() { grep -c "\"$1\"" /host/heard.jsonl 2>/dev/null || true; }
heard_more() { [ "$(heard "$1")" -gt "$2" ]; }
