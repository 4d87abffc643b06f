#!/usr/bin/env bash
# From nothing to a verified pack, at full size: `jetbench packs get NAME` in a clean Debian without Python packages and caches, against a
# server on this machine that speaks as the hub does, with a checkpoint of random weights under the released name. It runs once undisturbed
# and measured, then killed at random moments of every phase, the installation of PyTorch included, and started again each time: both must
# end in the same pack and the same environment, and leave nothing else behind (scripts/tests/get_killed.py). Opt-in: it downloads and
# installs gigabytes twice and exports at least three times, which takes an hour and more on two cores.
#
#   scripts/packs_get_test.sh [--name edgetam] [--checkpoint FILE.pt] [--root DIR] [--kills 10] [--seed 1] [--notes DIR] FILE.deb
#                             [-- FLAGS OF packs get]
#
# FILE.deb: made by scripts/package.sh (PROGRAM=FILE packs a program that is built already). --root: a bare Debian tree, which is written
# to; debootstrap makes one in /var/tmp if left out. --checkpoint: made by `export --random-init --save-checkpoint` if left out, which
# needs jetbench-models with PyTorch here. --notes: where what each run printed stays. Needs root. Packages come from where this
# machine's apt and pip get them.
set -euo pipefail
cd "$(dirname "$0")/.."
name=edgetam checkpoint='' root='' kills=10 seed=1 notes='' deb=''
while [ $# -gt 0 ]; do
    case $1 in
        --name) name=$2; shift 2 ;;
        --checkpoint) checkpoint=$(realpath "$2"); shift 2 ;;
        --root) root=$(realpath "$2"); shift 2 ;;
        --kills) kills=$2; shift 2 ;;
        --seed) seed=$2; shift 2 ;;
        --notes) notes=$(realpath -m "$2"); shift 2 ;;
        --) shift; break ;;
        -*) echo "unknown: $1" >&2; exit 2 ;;
        *) deb=$(realpath "$1"); shift ;;
    esac
done
[ -n "$deb" ] || { echo "usage: scripts/packs_get_test.sh FILE.deb" >&2; exit 2; }
missing() { echo "packs get test: $1" >&2; exit 3; }
[ "$(id -u)" = 0 ] || missing "needs root, for a root directory of its own"
work=$(mktemp -d -p /var/tmp)
server='' mounted=''
trap '[ -z "$server" ] || kill "$server" || true; [ -z "$mounted" ] || umount "$mounted" || true; rm -rf --one-file-system "$work"' EXIT

if [ -z "$root" ]; then
    command -v debootstrap >/dev/null || missing "install debootstrap"
    root=$work/root
    read -r mirror suite < <(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' | head -1)
    debootstrap --variant=minbase "$suite" "$root" "$mirror" >"$work/debootstrap.log" || missing "$(tail -3 "$work/debootstrap.log")"
fi
if [ ! -e "$root/proc/self" ]; then
    mount -t proc proc "$root/proc"
    mounted=$root/proc
fi
if [ -z "$checkpoint" ]; then
    checkpoint=$work/$name.pt
    PYTHONPATH=scripts python3 -m jetbench_models export --model "$name" --random-init --follow official --out "$work/made" \
        --dtype fp32 --save-checkpoint "$checkpoint"
fi
digest=$(sha256sum "$checkpoint" | cut -d' ' -f1)
# Slower than the machine, so that a moment of the download can be met.
python3 scripts/tests/hub.py --rate 8 "$name=$checkpoint" >"$work/address" &
server=$!
until [ -s "$work/address" ]; do kill -0 "$server"; sleep 0.1; done

# All that the program finds in its surroundings. What pip needs to be told on this machine is no part of the test.
around=("HF_ENDPOINT=$(cat "$work/address")" HOME=/home/user PATH=/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8)
index=${PIP_INDEX_URL:-$(python3 -m pip config get global.index-url 2>/dev/null || true)}
[ -z "$index" ] || around+=("PIP_INDEX_URL=$index")
cert=${PIP_CERT:-/etc/ssl/certs/ca-certificates.crt}
if [ -e "$cert" ]; then
    cp -L "$cert" "$root/root/certificates.crt"
    around+=(PIP_CERT=/root/certificates.crt)
fi
get=("$(command -v chroot)" "$root" jetbench packs get "$name" --out /home/user/packs --sha256 "$name=$digest" --yes "$@")

cp "$deb" "$root/root/package.deb"
chroot "$root" dpkg -i /root/package.deb >"$work/dpkg.log" 2>&1 || missing "$(tail -3 "$work/dpkg.log")"
if ! chroot "$root" sh -c 'command -v python3' >/dev/null; then
    # expect WORDS COMMAND…: exit code 3, and the words.
    expect() {
        local code=0 words=$1
        shift
        env -i "${around[@]}" "$@" >"$work/said" 2>&1 || code=$?
        { [ "$code" = 3 ] && grep -qF "$words" "$work/said"; } || { cat "$work/said"; echo "exit code $code, wanted 3 and \"$words\""; exit 1; } >&2
        echo "ok  exit code 3: $(grep -F "$words" "$work/said" | tail -n1 | cut -c1-150)"
    }
    install() {
        chroot "$root" sh -c "apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $1" \
            >"$work/apt.log" 2>&1 || missing "$(tail -3 "$work/apt.log")"
    }
    expect "install Python 3.11 or newer" "${get[@]}"
    install python3
    expect "apt-get install python3-venv" "${get[@]}"
    install python3-venv
fi
python3 scripts/tests/get_killed.py --root "$root" --home home/user --name "$name" --kills "$kills" --seed "$seed" \
    --notes "${notes:-$work/notes}" $(printf -- '--env %s ' "${around[@]}") -- "${get[@]}"
