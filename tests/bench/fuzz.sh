#!/usr/bin/env bash
# Fuzzes everything that reads bytes from outside, one target after another on one core, and prints a table. Exit code 1 when a
# target fell, hung (5 s) or took too much memory; the input is named then. What each target promises: tests/src/hostile.
#
# usage: tests/bench/fuzz.sh [RUNS [TARGET...]]      RUNS of each target, 100000 unless said; all targets unless said;
#                                                    FUZZ_SECONDS=N ends each after so many seconds at the latest
#        tests/bench/fuzz.sh --minimise [TARGET...]  puts what the runs found, minimised, in place of the committed corpus
#
# Needs cargo-fuzz (`cargo install cargo-fuzz`); any toolchain will do. What is found is kept in tests/fuzz/target/grown, so that
# the next run goes on from there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

command -v cargo-fuzz >/dev/null || { echo "cargo-fuzz is missing: cargo install cargo-fuzz" >&2 && exit 2; }
fuzz=tests/fuzz
grown=$fuzz/target/grown
# Largest file of the committed corpus and all files of a target, bytes (tests/tests/hostile), and how many files.
largest=8192
share=14000
files=60

minimise=no
runs=100000
case "${1:-}" in
--minimise) minimise=yes && shift ;;
--*) sed -n '5,7s/^# //p' "${BASH_SOURCE[0]}" >&2 && exit 2 ;;
?*) runs=$1 && shift ;;
esac
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(cd $fuzz/fuzz_targets && ls | sed 's/\.rs$//')

for target in "${targets[@]}"; do
    # The coverage counters want a compiler switch that stable toolchains have, too.
    RUSTC_WRAPPER=$PWD/$fuzz/rustc.sh cargo fuzz build --fuzz-dir $fuzz --sanitizer none "$target" >&2
done
built=$fuzz/target/$(rustc -vV | sed -n 's/^host: //p')/release
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# Seeds made by code, the committed corpus and what earlier runs found, in one folder.
gather() {
    mkdir -p "$grown/$1" $fuzz/artifacts "$fuzz/corpus/$1"
    FUZZ_SEEDS=$grown/$1 "$built/$1" -runs=0 >/dev/null 2>&1
    cp -n "$fuzz/corpus/$1"/* "$grown/$1/" 2>/dev/null || true
}

# The smallest inputs that reach most, as long as they are small.
shrink() {
    local kept small
    kept=$(mktemp -d) small=$(mktemp -d)
    find "$grown/$1" -type f -size -"$((largest + 1))"c -exec cp -t "$small" {} +
    "$built/$1" -merge=1 -rss_limit_mb=1024 -timeout=5 "$kept" "$small" >"$log" 2>&1
    rm -rf "${fuzz:?}/corpus/$1" && mkdir -p "$fuzz/corpus/$1"
    # Where they are too many, some of every size.
    find "$kept" -type f -printf '%s %p\n' | sort -n | awk -v share="$share" -v most="$files" '{ size[NR] = $1; path[NR] = $2; sum += $1 }
        END { step = sum > share ? sum / share : 1
              if (NR / step > most) step = NR / most
              for (i = 1; i <= NR && used + size[int(i)] <= share; i += step) { used += size[int(i)]; print path[int(i)] } }' |
        xargs -r cp -t "$fuzz/corpus/$1"
    rm -rf "$kept" "$small"
}

status=0
[ "$minimise" = yes ] || printf '| target | runs | seconds | runs a second | edges | inputs kept | peak MB | result |\n|---|---|---|---|---|---|---|---|\n'
for target in "${targets[@]}"; do
    gather "$target"
    if [ "$minimise" = yes ]; then
        shrink "$target"
        continue
    fi
    began=$(date +%s)
    result=sound
    # Longer ones are slower and show nothing more.
    most=$(sed -n "s/.*name: \"$target\".*most: \([0-9]*\).*/\1/p" tests/src/hostile/mod.rs)
    nice -n 19 "$built/$target" -runs="$runs" -max_len="$most" -rss_limit_mb=1024 -timeout=5 -print_final_stats=1 \
        -max_total_time="${FUZZ_SECONDS:-0}" \
        -artifact_prefix="$fuzz/artifacts/$target-" "$grown/$target" >"$log" 2>&1 || {
        status=1
        result=$(LC_ALL=C sed -n 's/^.*Test unit written to //p' "$log" | tail -n 1)
        result="FELL: ${result:-see above}"
        tail -n 40 "$log" >&2
    }
    seconds=$(($(date +%s) - began))
    stat() { LC_ALL=C sed -n "s/^stat::$1: *//p" "$log" | tail -n 1; }
    ran=$(stat number_of_executed_units)
    edges=$(grep -ao "cov: [0-9]*" "$log" | tail -n 1 | cut -d ' ' -f 2)
    printf '| %s | %s | %s | %s | %s | %s | %s | %s |\n' "$target" "${ran:-?}" "$seconds" \
        "$((${ran:-0} / (seconds > 0 ? seconds : 1)))" "${edges:-?}" "$(find "$grown/$target" -type f | wc -l)" \
        "$(stat peak_rss_mb)" "$result"
done
exit $status
