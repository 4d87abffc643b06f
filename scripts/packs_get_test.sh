#!/usr/bin/env bash
# From nothing to a verified pack, at full size: `jetbench packs get NAME` in a root without Python packages and caches, against a server on
# this machine that speaks as the hub does, with a checkpoint of random weights under the released name. It is killed at random moments,
# then run to its end, and run once more in another empty home: both packs must have the same digests. Opt-in: it installs gigabytes and
# exports twice, which takes an hour and more on two cores.
#
#   scripts/packs_get_test.sh [--name edgetam] [--checkpoint FILE.pt] [--root DIR] [--kills 10] [--once] [--reuse] [-- FLAGS OF packs get]
#
# --root: a Debian tree (debootstrap --variant=minbase bookworm DIR), entered with chroot as root; python3 and python3-venv are installed into
# it. Without: this machine's python3 with an empty environment and home. --checkpoint: made by `export --random-init --save-checkpoint` if left
# out, which needs jetbench-models with PyTorch here. --once: without the second pack. --reuse: with the environment that an earlier run left
# in the root.
set -euo pipefail
cd "$(dirname "$0")/.."
name=edgetam checkpoint='' root='' kills=10 once='' reuse=''
while [ $# -gt 0 ]; do
    case $1 in
        --name) name=$2; shift 2 ;;
        --checkpoint) checkpoint=$(realpath "$2"); shift 2 ;;
        --root) root=$(realpath "$2"); shift 2 ;;
        --kills) kills=$2; shift 2 ;;
        --once) once=1; shift ;;
        --reuse) reuse=1; shift ;;
        --) shift; break ;;
        *) echo "unknown: $1" >&2; exit 2 ;;
    esac
done
flags=("$@")
program=${JETBENCH:-target/debug/jetbench}
[ -x "$program" ] || { echo "$program: build it first, or name it with JETBENCH" >&2; exit 2; }
work=$(mktemp -d)
server=''
mounted=''
trap '[ -z "$server" ] || kill "$server"; [ -z "$mounted" ] || umount "$mounted"; rm -rf "$work"' EXIT
if [ -z "$checkpoint" ]; then
    checkpoint=$work/$name.pt
    PYTHONPATH=scripts python3 -m jetbench_models export --model "$name" --random-init --follow official --out "$work/made" \
        --dtype fp32 --save-checkpoint "$checkpoint"
fi
digest=$(sha256sum "$checkpoint" | cut -d' ' -f1)
python3 scripts/tests/hub.py "$name=$checkpoint" >"$work/address" &
server=$!
until [ -s "$work/address" ]; do kill -0 "$server"; done
endpoint=$(cat "$work/address")

# The tree as an installation has it, and a home with nothing in it.
here=${root:-$work}
tree=$here/opt/jetbench-test
if [ -n "$reuse" ]; then
    rm -rf "$here/home/first/packs" "$here/home/first/.cache"
else
    rm -rf "$here/home/first"
fi
rm -rf "$tree" "$here/home/second"
mkdir -p "$tree/scripts" "$tree/bin" "$here/home/first" "$here/home/second"
cp "$program" "$tree/bin/jetbench"
cp -r scripts/jetbench_models scripts/requirements.lock scripts/pyproject.toml "$tree/scripts/"
if [ -n "$root" ] && ! chroot "$root" python3 -m venv --help >/dev/null 2>&1; then
    chroot "$root" sh -c 'apt-get update -qq && apt-get install -qq -y --no-install-recommends python3 python3-venv ca-certificates' >/dev/null
fi
if [ -n "$root" ] && [ ! -e "$root/proc/self" ]; then
    mount -t proc proc "$root/proc"
    mounted=$root/proc
fi
inside=${tree#"$root"}
enter=(env -i "HF_ENDPOINT=$endpoint" "PATH=/usr/local/bin:/usr/bin:/bin" "LANG=C.UTF-8")
for variable in PIP_INDEX_URL PIP_CERT SSL_CERT_FILE; do [ -z "${!variable:-}" ] || enter+=("$variable=${!variable}"); done
[ -z "$root" ] || enter=(chroot "$root" "${enter[@]}")
get() { # get HOME FLAGS…: becomes the program, so that its process is the one that is killed
    local home=${here#"$root"}/home/$1; shift
    exec "${enter[@]}" "HOME=$home" "$inside/bin/jetbench" packs get "$name" --out "$home/packs" --sha256 "$name=$digest" --yes "${flags[@]}" "$@"
}
digests() { (cd "$here/home/$1/packs/$name" && find . -type f -print0 | sort -z | xargs -0 sha256sum); }

started=$SECONDS
environment=$here/home/first/.local/share/jetbench/models/made-from
for ((i = 1; i <= kills; i++)); do
    (get first) >"$work/log" 2>&1 &
    victim=$!
    # The first third of the kills meets the installation, the others what comes after it. Early moments are as likely as late ones.
    if [ $((3 * i)) -gt "$kills" ]; then
        until [ -e "$environment" ]; do kill -0 "$victim"; sleep 0.1; done
    fi
    after=$(python3 -c "import random; print(round(10 ** random.uniform(-0.7, 2.1), 1))")
    sleep "$after"
    kill -KILL "$victim" 2>/dev/null && what=killed || what="had ended before it was killed"
    wait "$victim" 2>/dev/null || true
    echo "kill $i after $after s: $what; last: $(tail -n1 "$work/log" | cut -c1-150)"
    [ "$what" = killed ] || [ -e "$here/home/first/packs/$name" ] || { cat "$work/log" >&2; exit 1; }
    [ ! -e "$here/home/first/packs/$name" ] || [ "$what" != killed ] || { echo "a pack of a killed run has its name" >&2; exit 1; }
done
(get first)
echo "$((SECONDS - started)) s with $kills kills; environment $(du -sm "$here/home/first/.local/share/jetbench/models" | cut -f1) MB," \
    "downloads kept by pip $(du -sm "$here/home/first/.cache/pip" 2>/dev/null | cut -f1) MB"
digests first >"$work/first"
left=$(find "$here/home/first/packs" -mindepth 1 -maxdepth 1 -name '.*' ! -name .getting)
[ -z "$left" ] || { echo "left over: $left" >&2; exit 1; }
if [ -z "$once" ]; then
    # The same packages; everything else from nothing.
    mkdir -p "$here/home/second/.local/share"
    cp -a "$here/home/first/.local/share/jetbench" "$here/home/second/.local/share/"
    (get second)
    digests second | diff "$work/first" - || { echo "the packs differ" >&2; exit 1; }
    echo "after $kills kills the pack is the one of an undisturbed run: $(wc -l <"$work/first") files, equal digests"
fi
