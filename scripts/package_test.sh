#!/usr/bin/env bash
# Does a Debian package of scripts/package.sh work on a clean machine? Installs it in a root that holds nothing but Debian, and there, from
# the directory /: doctor names one command that fetches ONNX Runtime, that command works, doctor passes, the demo runs, completions load,
# and after `apt purge` nothing is left but the results. A package for aarch64 is unpacked only, and its program run under an emulator:
# --version, models, and doctor without a runtime.
#
# usage: scripts/package_test.sh FILE.deb…
#
# Needs root, debootstrap and systemd-nspawn (package systemd-container). CLEAN_ROOT=DIR copies that root in place of making one. Packages
# come from where this machine's apt gets them, wheels from where its pip does. Not part of scripts/test.sh: it downloads a Debian.
set -euo pipefail
fail() { echo "package test: $1" >&2; exit 1; }
missing() { echo "package test: $1" >&2; exit 3; }
[ "$#" -gt 0 ] || { echo "usage: scripts/package_test.sh FILE.deb…" >&2; exit 2; }
[ "$(id -u)" = 0 ] || missing "needs root, for a root directory of its own"
work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT

# A minimal Debian with pip, which is what the package recommends.
clean_root() {
    command -v systemd-nspawn >/dev/null || missing "install systemd-container"
    root=$work/root
    if [ -n "${CLEAN_ROOT:-}" ]; then
        cp -a "$CLEAN_ROOT" "$root"
    else
        command -v debootstrap >/dev/null || missing "install debootstrap"
        local mirror suite
        read -r mirror suite < <(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' | head -1)
        debootstrap --variant=minbase "$suite" "$root" "$mirror" >"$work/debootstrap.log" || missing "$(tail -3 "$work/debootstrap.log")"
    fi
    pip=()
    local index cert
    index=$(python3 -m pip config get global.index-url 2>/dev/null || true)
    index=${PIP_INDEX_URL:-$index}
    [ -z "$index" ] || pip+=(--setenv=PIP_INDEX_URL="$index")
    cert=${PIP_CERT:-/etc/ssl/certs/ca-certificates.crt}
    if [ -e "$cert" ]; then
        cp -L "$cert" "$root/root/certificates.crt"
        pip+=(--setenv=PIP_CERT=/root/certificates.crt)
    fi
    inside "apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-pip" \
        >"$work/apt.log" 2>&1 || missing "$(tail -3 "$work/apt.log")"
}

inside() { systemd-nspawn -q -D "$root" --machine="jetbench-package-$$" --register=no --keep-unit --pipe "${pip[@]}" /bin/sh -c "cd / && $1"; }

# Every path of the root but the results and what apt and dpkg keep about themselves.
paths() {
    (cd "$root" && find . -xdev \( -path ./results -o -path ./var/cache -o -path ./var/log -o -path ./var/lib/apt -o -path ./var/lib/dpkg \) \
        -prune -o -printf '%p %y %m\n' | sort)
}

# expect CODE WORDS COMMAND: runs it inside, shows what it says if it ends otherwise or does not say WORDS.
expect() {
    local code=0
    inside "$3" >"$work/said" 2>&1 || code=$?
    { [ "$code" = "$1" ] && grep -qF -- "$2" "$work/said"; } || { cat "$work/said" >&2; fail "$3: exit code $code, wanted $1 and \"$2\""; }
    echo "ok  $3"
}

installed() {
    clean_root
    cp "$1" "$root/root/package.deb"
    paths >"$work/before"
    expect 0 "" "DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends /root/package.deb"
    expect 3 "get-runtime.sh --system" "jetbench doctor"
    local fetch
    fetch=$(grep -o '/[^ ]*get-runtime.sh --system' "$work/said" | head -1)
    expect 0 "" "$fetch"
    expect 0 "/usr/share/jetbench/assets/packs/edgetam_mini: " "jetbench doctor"
    # A busy machine may make a cell invalid. What is asked here is whether both were measured.
    inside "jetbench --config configs/demo.toml --json" >"$work/said" 2>"$work/notes" || true
    cat "$work/said"
    [ "$(tail -1 "$work/said" | grep -o '"verdict":"\(valid\|invalid\)"' | wc -l)" = 2 ] || { cat "$work/notes" >&2; fail "the demo"; }
    expect 0 "-F _jetbench jetbench" "bash --norc -c '. /usr/share/bash-completion/completions/jetbench; complete -p jetbench'"
    expect 0 "jetbench" "zcat /usr/share/man/man1/jetbench.1.gz /usr/share/man/man1/jetbench-data-check.1.gz"
    expect 0 "" "apt-get purge -y jetbench"
    paths >"$work/after"
    diff "$work/before" "$work/after" || fail "apt purge leaves traces"
    [ -n "$(find "$root/results" -name run.json)" ] || fail "apt purge took the results"
    echo "ok  nothing is left but the results"
}

emulated() {
    local run=(qemu-aarch64-static -L /usr/aarch64-linux-gnu "$work/arm/usr/bin/jetbench") code=0
    command -v "${run[0]}" >/dev/null || missing "install qemu-user-static libc6-dev-arm64-cross libstdc++6-arm64-cross"
    mkdir "$work/arm" "$work/home"
    dpkg-deb -x "$1" "$work/arm"
    # Neither the cache nor the Python of this machine has a library for the other processor.
    alone() { (cd / && env -i HOME="$work/home" PATH="$work/home" QEMU_CPU=neoverse-n1 "$(command -v "${run[0]}")" "${run[@]:1}" "$@"); }
    alone --version
    alone models | grep -q "$work/arm/usr/share/jetbench/assets/packs/sam2_mini" || fail "its packs are not found"
    alone doctor --out "$work/home" >"$work/said" 2>&1 || code=$?
    { [ "$code" = 3 ] && grep -q '^ok *pack sam2_mini' "$work/said" && grep -q '^ok *data' "$work/said" \
        && grep -q 'get-runtime.sh' "$work/said"; } || { cat "$work/said" >&2; fail "doctor under the emulator: exit code $code"; }
    echo "ok  --version, models and doctor under the emulator"
}

for file in "$@"; do
    if [ "$(dpkg-deb -f "$file" Architecture)" = "$(dpkg --print-architecture)" ]; then installed "$file"; else emulated "$file"; fi
done
