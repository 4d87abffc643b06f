#!/usr/bin/env bash
# Makes releases in dist/: jetbench-VERSION-linux-ARCH.tar.gz, and jetbench_VERSION_DEBARCH.deb where dpkg-deb is installed. Both hold the
# program, man pages, completions, the miniature packs, the demo clips, the example jobs, the documents, the script that fetches ONNX Runtime, and
# the exporter for `packs get`. The same sources, toolchain and SOURCE_DATE_EPOCH (default: the time of the last commit) give the same bytes.
#
# usage: scripts/package.sh [x86_64|aarch64]…    default: this machine's
#
# aarch64 is cross-built on x86-64 (packages as for scripts/test-arm.sh). PROGRAM=FILE packs that program instead of building one. Who made
# the package is DEBFULLNAME <DEBEMAIL>.
set -euo pipefail
cd "$(dirname "$0")/.."
fail() { echo "package: $1" >&2; exit 3; }
umask 022
export LC_ALL=C TZ=UTC SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}"
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
maintainer="${DEBFULLNAME:-jetbench maintainers} <${DEBEMAIL:-maintainers@jetbench.invalid}>"
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Sets `program`, and `run`: how it is run here.
build() {
    local triple=$1-unknown-linux-gnu
    run=()
    if [ "$1" != "$(uname -m)" ]; then
        [ "$1-$(uname -m)" = aarch64-x86_64 ] || fail "$1 cannot be built on $(uname -m)"
        run=(qemu-aarch64-static -L /usr/aarch64-linux-gnu)
        command -v aarch64-linux-gnu-gcc >/dev/null && command -v "${run[0]}" >/dev/null \
            || fail "install gcc-aarch64-linux-gnu libc6-dev-arm64-cross libstdc++6-arm64-cross qemu-user-static"
    fi
    program=${PROGRAM:-$target/$triple/release/jetbench}
    [ -z "${PROGRAM:-}" ] || return 0
    rustup target add "$triple" >/dev/null 2>&1 || true
    # Where this machine keeps sources is nobody's business, and would make every machine's bytes its own.
    local flags=(--remap-path-prefix "${CARGO_HOME:-$HOME/.cargo}=/cargo" --remap-path-prefix "$target=/target" --remap-path-prefix "$PWD=/jetbench")
    CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f'; echo "${flags[*]}") JETBENCH_RELEASE=1 \
        CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=$([ "$(uname -m)" = aarch64 ] && echo cc || echo aarch64-linux-gnu-gcc) \
        cargo build --release --locked --bin jetbench --target "$triple"
}

# The tree below usr/.
tree() {
    local usr=$1 triple=$2-unknown-linux-gnu
    install -Dm755 "$program" "$usr/bin/jetbench"
    mkdir -p "$usr/share/man/man1" "$usr/share/jetbench" "$usr/share/doc/jetbench"
    "${run[@]}" "$usr/bin/jetbench" man --dir "$usr/share/man/man1" >/dev/null
    gzip -9n "$usr"/share/man/man1/*
    completions() { "${run[@]}" "$usr/bin/jetbench" completions "$1" | install -Dm644 /dev/stdin "$usr/share/$2"; }
    completions bash bash-completion/completions/jetbench
    completions zsh zsh/vendor-completions/_jetbench
    completions fish fish/vendor_completions.d/jetbench.fish
    git ls-files -z assets/demo assets/golden assets/packs configs scripts/get-runtime.sh scripts/from_wheel.py scripts/runtime.txt \
        scripts/runtime-webgpu.txt scripts/runtime-webgpu-plugin.txt scripts/jetbench_models scripts/requirements.lock | xargs -0 cp --parents -t "$usr/share/jetbench"
    git ls-files -z README.md docs ":!docs/gpu/" | xargs -0 cp --parents -t "$usr/share/doc/jetbench"
    gzip -9nc CHANGELOG.md >"$usr/share/doc/jetbench/CHANGELOG.md.gz"
    cargo metadata --format-version 1 --locked --filter-platform "$triple" | python3 scripts/package/licences.py \
        | gzip -9n >"$usr/share/doc/jetbench/third-party.txt.gz"
    copyright >"$usr/share/doc/jetbench/copyright"
}

copyright() {
    cat <<'TXT'
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: the jetbench authors
License: Apache-2.0
 On Debian systems the text is in /usr/share/common-licenses/Apache-2.0.
Comment: The program contains Rust crates; third-party.txt.gz names them, with their licences. It also contains a part of the font
 DejaVu Sans, whose licence follows.

Files: usr/bin/jetbench
Copyright: Bitstream, Inc.; Tavmjong Bah; the DejaVu authors
License: DejaVu
TXT
    sed -e 's/[[:space:]]*$//' -e 's/^$/./' -e 's/^/ /' assets/fonts/LICENSE
}

# The control files of the Debian package.
control() {
    local root=$1 architecture=$2
    local glibc
    glibc=$(readelf --version-info "$root/usr/bin/jetbench" | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -1)
    local size=$(($(find "$root/usr" -type f -printf "%s\n" | awk "{ n += \$1 } END { print n }") / 1024 + 1))
    mkdir -p "$root/DEBIAN"
    cat >"$root/DEBIAN/control" <<TXT
Package: jetbench
Version: $version
Architecture: $architecture
Maintainer: $maintainer
Installed-Size: $size
Depends: libc6 (>= ${glibc#GLIBC_}), libgcc-s1
Recommends: python3-pip
Suggests: ffmpeg, python3-venv
Section: science
Priority: optional
Description: benchmark of video segmentation models on this device
 Tracks objects through annotated videos with SAM 2 and EdgeTAM, as ONNX graphs
 on ONNX Runtime, and measures accuracy, speed, memory and energy. ONNX Runtime
 is not part of this package: \`jetbench doctor\` says how to get it.
TXT
    # What `get-runtime.sh --system` fetched, and the locks of runs, are in no package's list.
    cat >"$root/DEBIAN/postrm" <<'TXT'
#!/bin/sh
set -e
if [ "$1" = purge ]; then
    rm -rf /var/lib/jetbench /run/lock/jetbench
fi
TXT
    chmod 755 "$root/DEBIAN/postrm"
    printf 'jetbench (%s) unstable; urgency=medium\n\n  * See CHANGELOG.md.gz.\n\n -- %s  %s\n' "$version" "$maintainer" \
        "$(date -R -d "@$SOURCE_DATE_EPOCH")" | gzip -9n >"$root/usr/share/doc/jetbench/changelog.gz"
    (cd "$root" && find usr -type f -print0 | sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
}

# Nothing of this machine: neither its umask nor when files were written.
dated() {
    chmod -R u=rwX,go=rX "$1"
    find "$1" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
}

mkdir -p dist
for arch in "${@:-$(uname -m)}"; do
    case "$arch" in
        x86_64) architecture=amd64 ;;
        aarch64) architecture=arm64 ;;
        *) fail "unknown architecture $arch; known: x86_64, aarch64" ;;
    esac
    build "$arch"
    name=jetbench-$version-linux-$arch
    tree "$work/$arch/usr" "$arch"
    cp -R "$work/$arch/usr" "$work/$name"
    cp LICENSE "$work/$name/"
    mkdir "$work/$name/share/zsh/site-functions"
    mv "$work/$name"/share/zsh/vendor-completions/_jetbench "$work/$name/share/zsh/site-functions/"
    rmdir "$work/$name/share/zsh/vendor-completions"
    dated "$work/$name"
    tar -C "$work" --format=gnu --sort=name --owner=0 --group=0 --numeric-owner -cf - "$name" | gzip -9n >"dist/$name.tar.gz"
    made=("dist/$name.tar.gz")
    if command -v dpkg-deb >/dev/null; then
        control "$work/$arch" "$architecture"
        dated "$work/$arch"
        dpkg-deb --root-owner-group -Zgzip -z9 --build "$work/$arch" "dist/jetbench_${version}_$architecture.deb" >/dev/null
        made+=("dist/jetbench_${version}_$architecture.deb")
    else
        echo "package: no dpkg-deb here: no Debian package" >&2
    fi
    sha256sum "${made[@]}"
done
