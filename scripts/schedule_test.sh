#!/usr/bin/env bash
# Scheduled runs for real: boots a clean Debian with its own systemd in a container and lets timers fire there. A first night on a
# machine without results, nights against a baseline, --keep, a reboot's empty /run/lock, a regression, --on-failure, the sandbox,
# removal. The model is the scripted mock, so that nothing but the program and Debian is needed. Takes about three minutes.
#
#   scripts/schedule_test.sh            needs root, and Debian's packages systemd-container and debootstrap
#
# JETBENCH   the program [default: a release build of this tree]
# ROOT       a Debian root with systemd to start from; it is copied, not changed [default: one made by debootstrap]
# MIRROR     where debootstrap gets it [default: the first that apt is set up with]
set -euo pipefail

# ---- in the container -------------------------------------------------------------------------------------------------------------

home=/home/bench
failures=0
check() { # WHAT COMMAND...: one line per check
    local what=$1
    shift
    if "$@"; then echo "ok    $what"; else echo "FAIL  $what"; failures=$((failures + 1)); fi
}
is() { [ "$1" = "$2" ] || { echo "      '$1' instead of '$2'"; false; }; }
none() { ! compgen -G "$1" >/dev/null; }
user() { runuser -u bench -- env -C $home HOME=$home "$@"; }
# As `sudo` runs a command of that user.
as_sudo() { env -C $home SUDO_UID="$(id -u bench)" SUDO_GID="$(id -g bench)" HOME=/root "$@"; }
status() { sed -n "s/^  \"$1\": \"\\?\\([^\",]*\\)\"\\?,\\?$/\\1/p" $home/results/schedules/"$schedule".json 2>/dev/null || true; }
schedule=night
runs() { find $home/results -mindepth 2 -maxdepth 2 -name '2*Z-*' | wc -l; }
night() { # waits until a run that began after now has ended, and prints its exit code
    local from
    from=$(date -u +%FT%TZ)
    for _ in $(seq 150); do
        sleep 1
        if [[ "$(status started)" > "$from" && "$(status finished)" =~ ^2 ]]; then
            status code
            return
        fi
    done
    echo "no run in 150 s"
}
install_job() { as_sudo jetbench schedule install --system --on-calendar '*:*:0/15' --config night.toml --keep 2 "$@"; }

# The same as units of a user, who need not be logged in. Needs the user's own service manager.
user_units() {
    if ! compgen -G '/usr/lib/*/security/pam_systemd.so' >/dev/null; then
        echo "skipped: user units, this root has no libpam-systemd"
        return
    fi
    schedule=evening
    loginctl enable-linger bench
    local run
    run=/run/user/$(id -u bench)
    for _ in $(seq 30); do [ -S "$run/bus" ] || sleep 1; done
    user mkdir -p .config/systemd/user/jetbench-evening.timer.d
    printf '[Timer]\nAccuracySec=100ms\n' | user tee .config/systemd/user/jetbench-evening.timer.d/fast.conf >/dev/null
    user sed -i /export-/d night.toml
    user XDG_RUNTIME_DIR="$run" jetbench schedule install --name evening --on-calendar '*:*:0/15' --config night.toml --on-failure 'echo user >> said-user'
    check "a night of user units is valid" is "$(night)" 0
    check "no failure was told" none "$home/said-user"
    user sed -i s/calm_mask/none_mask/ night.toml
    check "a night without its pack ends with exit code 2" is "$(night)" 2
    sleep 2
    check "OnFailure= told of it" is "$(head -1 $home/said-user)" user
    user XDG_RUNTIME_DIR="$run" jetbench schedule remove evening
    check "removed: no service of the user" none "$home/.config/systemd/user/jetbench*evening.service"
    check "removed: no timer of the user" none "$home/.config/systemd/user/jetbench*evening.timer"
}

inside() {
    useradd --create-home bench
    user jetbench data synth data --videos 6 --frames 13 --size 48x32 --quiet
    user mkdir -p packs/calm
    pack() { printf 'schema = 1\nid = "calm"\nfamily = "mock"\n[mock]\nframe_ms = [40.0]\nmotion = [%s]\n' "$1" | user tee packs/calm/pack.toml >/dev/null; }
    pack "1.0, 0.0"
    printf 'models = "calm_mask"\ndata = "data"\ndtype = "fp32"\nmin-frames = 1\nexport-prometheus = "/srv/metrics/night.prom"\n' | user tee night.toml >/dev/null
    # The timer of a schedule may be a minute late, which is fine at night and slow in a test.
    mkdir -p /etc/systemd/system/jetbench-night.timer.d
    printf '[Timer]\nAccuracySec=100ms\n' >/etc/systemd/system/jetbench-night.timer.d/fast.conf

    install_job
    check "units are installed and the timer waits" is "$(systemctl is-active jetbench-night.timer)" active
    check "a first night, on a machine without results, is valid" is "$(night)" 0
    check "its results belong to whoever ran sudo" is "$(stat -c %U $home/results/*/2*/run.json | sort -u)" bench
    check "its metrics are where the config says" grep -q '^jetbench_verdict{.*verdict="valid"} 1$' /srv/metrics/night.prom

    user jetbench compare latest --save-baseline main
    local saved
    saved=$(user readlink -f "$(sed -n 's/.*"run": "\(.*\)".*/\1/p' $home/results/baselines/main.json)")
    # $JETBENCH_… is for the shell of the failure unit.
    # shellcheck disable=SC2016
    install_job --baseline main --fail-on-regression --on-failure 'echo "$JETBENCH_SCHEDULE $(id -un) $(grep -c code "$JETBENCH_STATUS")" >> said'
    check "a night against the baseline is valid" is "$(night)" 0
    rm -rf /run/lock/jetbench
    check "so is one after a reboot has emptied /run/lock" is "$(night)" 0
    check "and a third one" is "$(night)" 0
    systemctl stop jetbench-night.timer
    check "--keep 2 leaves two runs and the baseline" is "$(runs) $([ -d "$saved" ] && echo baseline)" "3 baseline"
    check "no failure was told" none "$home/said"
    systemctl start jetbench-night.timer

    pack "6.0, 0.0"
    check "a night that regresses ends with exit code 1" is "$(night)" 1
    sleep 2
    check "systemd calls the service failed" is "$(systemctl is-failed jetbench-night.service)" failed
    check "OnFailure= ran the command once, as the user" is "$(head -1 $home/said)" "night bench 1"
    systemctl stop jetbench-night.timer
    check "the list shows how it ended" grep -q 'exit 1' <(as_sudo jetbench schedule list --system)

    # The config now writes to a place that the installed unit does not open.
    pack "1.0, 0.0"
    echo 'export-junit = "/home/bench/elsewhere.xml"' | user tee -a night.toml >/dev/null
    systemctl start jetbench-night.timer
    check "the sandbox keeps the run from writing elsewhere, exit code 3" is "$(night)" 3
    check "nothing was written there" none "$home/elsewhere.xml"

    local before
    as_sudo jetbench schedule remove night --system
    before=$(runs)
    sleep 20
    check "removed: no service" none '/etc/systemd/system/jetbench*night.service'
    check "removed: no timer" none '/etc/systemd/system/jetbench*night.timer'
    check "systemd knows no timer any more" is "$(systemctl list-timers --all --no-legend 'jetbench*' | wc -l)" 0
    check "no further run, and all results stay" is "$(runs) $([ -d "$saved" ] && echo baseline)" "$before baseline"
    user_units
    echo "$failures failed"
}

if [ "${1:-}" = --inside ]; then
    inside
    exit
fi

# ---- on this machine --------------------------------------------------------------------------------------------------------------

cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "schedule_test: needs root, to boot a container" >&2; exit 3; }
command -v systemd-nspawn >/dev/null || { echo "schedule_test: systemd-nspawn is missing (apt install systemd-container)" >&2; exit 3; }
[ -n "${JETBENCH:-}" ] || { cargo build --release --locked; JETBENCH="${CARGO_TARGET_DIR:-$PWD/target}/release/jetbench"; }
work=$(mktemp -d "${TMPDIR:-/tmp}/jetbench-schedule.XXXXXX")
trap 'rm -rf "$work"' EXIT
if [ -n "${ROOT:-}" ]; then
    cp -a "$ROOT" "$work/root"
else
    command -v debootstrap >/dev/null || { echo "schedule_test: debootstrap is missing (apt install debootstrap)" >&2; exit 3; }
    # shellcheck disable=SC2016 # apt's own variable
    MIRROR=${MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | head -1)}
    # shellcheck source=/dev/null
    debootstrap --variant=minbase --include=systemd,dbus,libpam-systemd,dbus-user-session "$(. /etc/os-release && echo "$VERSION_CODENAME")" "$work/root" "$MIRROR" >"$work/debootstrap.log" ||
        { tail "$work/debootstrap.log" >&2; exit 3; }
fi
install -m 755 "$JETBENCH" "$work/root/usr/bin/jetbench"
install -m 755 scripts/schedule_test.sh "$work/root/root/schedule_test.sh"
cat >"$work/root/etc/systemd/system/schedule-test.service" <<'UNIT'
[Unit]
After=multi-user.target
SuccessAction=poweroff-force
FailureAction=poweroff-force
[Service]
Type=oneshot
ExecStart=/bin/bash /root/schedule_test.sh --inside
StandardOutput=file:/root/report.txt
StandardError=inherit
TimeoutStartSec=20min
[Install]
WantedBy=multi-user.target
UNIT
ln -s ../schedule-test.service "$work/root/etc/systemd/system/multi-user.target.wants/schedule-test.service"
timeout 1300 systemd-nspawn --quiet --directory "$work/root" --register=no --keep-unit --boot >"$work/boot.log" 2>&1 || true
cat "$work/root/root/report.txt"
if [ "$(tail -1 "$work/root/root/report.txt")" != "0 failed" ]; then
    journalctl --directory "$work/root/var/log/journal" --no-pager --unit 'jetbench*' 2>/dev/null | tail -40
    tail -20 "$work/boot.log"
    exit 1
fi
