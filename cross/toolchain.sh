#!/usr/bin/env bash
# Gives a build for aarch64 what it needs besides cargo, in one folder that nothing else of the system knows of:
#   cross/toolchain.sh DIR
#
# The C and C++ cross compilers come from Debian's packages (installed if they are missing). Rust's standard library for
# aarch64 comes from rustup where it has the target; otherwise Debian's rustc-web (kept current for browsers) with its
# library for both architectures is unpacked into DIR/rust: it needs no installation and replaces nothing.
# Writes DIR/env: `source` it before cargo. Needs Debian 12 or later, or Ubuntu with the same packages.
set -euo pipefail
exec </dev/null
[ $# = 1 ] || { echo "usage: cross/toolchain.sh DIR" >&2 && exit 2; }
mkdir -p "$1"
dir=$(cd "$1" && pwd)
target=aarch64-unknown-linux-gnu
say() { printf '== %s\n' "$*" >&2; }
stop() { printf 'cross/toolchain.sh: %s\n' "$*" >&2 && exit 2; }
as_root=()
[ "$(id -u)" = 0 ] || as_root=(sudo)

if ! command -v aarch64-linux-gnu-g++ >/dev/null; then
    say "installing with apt-get: g++-aarch64-linux-gnu libc6-dev-arm64-cross"
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
        gcc-aarch64-linux-gnu g++-aarch64-linux-gnu libc6-dev-arm64-cross >&2
fi

# Always by this path: with another linker cargo builds everything anew. cross/sysroot.sh puts its own there.
if [ ! -e "$dir/linker" ]; then
    printf '#!/bin/sh\nexec aarch64-linux-gnu-gcc "$@"\n' >"$dir/linker"
    chmod +x "$dir/linker"
fi
cat >"$dir/env" <<END
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER="$dir/linker"
export CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc
export CXX_aarch64_unknown_linux_gnu=aarch64-linux-gnu-g++
export AR_aarch64_unknown_linux_gnu=aarch64-linux-gnu-ar
END

if [ -d "$(rustc --print sysroot)/lib/rustlib/$target/lib" ]; then
    say "$(rustc --version) has $target"
    exit 0
fi
if command -v rustup >/dev/null && rustup target add "$target" >/dev/null 2>&1; then
    say "rustup added $target"
    exit 0
fi

# Debian's: the compiler, what it is linked with, and the standard library of host and target.
if [ ! -x "$dir/rust/usr/bin/rustc" ]; then
    dpkg --print-foreign-architectures | grep -qx arm64 || "${as_root[@]}" dpkg --add-architecture arm64
    apt-cache policy libstd-rust-web-dev:arm64 | grep -q Candidate: || "${as_root[@]}" apt-get update -q >&2
    rm -rf "$dir/packages" && mkdir -p "$dir/packages"
    (
        cd "$dir/packages"
        library=$(apt-cache depends libstd-rust-web-dev:amd64 | sed -n 's/.*Depends: \(libstd-rust-web-[0-9.]*\).*/\1/p' | head -n 1)
        [ -n "$library" ] || stop "this system has no package libstd-rust-web-dev: rustup target add $target where rustup is"
        llvm=$(apt-cache depends "$library" | sed -n 's/.*Depends: \(libllvm[0-9.a-z-]*\).*/\1/p' | head -n 1)
        say "unpacking rustc-web, $library, $llvm and libstd-rust-web-dev for amd64 and arm64 into $dir/rust"
        # shellcheck disable=SC2086
        apt-get download -q rustc-web "$library" $llvm libstd-rust-web-dev:amd64 libstd-rust-web-dev:arm64 >&2
    )
    for package in "$dir"/packages/*.deb; do dpkg -x "$package" "$dir/rust"; done
    rm -rf "$dir/packages"
fi
cat >>"$dir/env" <<END
export RUSTC="$dir/rust/usr/bin/rustc"
export LD_LIBRARY_PATH="$dir/rust/usr/lib/x86_64-linux-gnu\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}"
END
# shellcheck disable=SC1091
(source "$dir/env" && say "$("$RUSTC" --version) for $target") || stop "the unpacked compiler does not start"
