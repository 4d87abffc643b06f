#!/usr/bin/env bash
# Captures what jetbench reads of this machine's /proc and /sys as a tree of plain files, which every sensor takes as its
# root: `jetbench telemetry --root DIR`, and the tests. Run it as the user who measures, and once more with sudo to get
# what only root can read; the two differ on purpose. Serial numbers are replaced by their SHA-256; host names, names of
# processes and GPU identifiers are not taken. Usage: scripts/capture_sysfs.sh DIR [ROOT]
set -uo pipefail
out=${1:?usage: scripts/capture_sysfs.sh DIR [ROOT]}
root=${2:-}
if [ -e "$out" ] && [ -n "$(ls -A "$out" 2>/dev/null)" ]; then
    echo "$out is not empty; name a new directory" >&2
    exit 2
fi
mkdir -p "$out" || exit 2

taken=0 refused=0
# One file: its first 64 KiB. Sensors may refuse to be read (a gated rail, no root): that is a fact about the board too.
take() {
    local file=$1 to="$out/${1#"$root"/}"
    [ -f "$file" ] || return 0
    mkdir -p "$(dirname "$to")"
    if timeout 2 head -c 65536 "$file" >"$to" 2>/dev/null; then
        taken=$((taken + 1))
    else
        rm -f "$to"
        refused=$((refused + 1))
        printf '%s\n' "${file#"$root"/}" >>"$out/unreadable.txt"
    fi
}
# Every file of these names in a directory, whatever its name is on this board.
take_all() {
    local dir=$1 name
    shift
    for name in "$@"; do
        for file in "$dir"/$name; do take "$file"; done
    done
}

# Identity.
# One file, through a filter.
filter() {
    local file=$1 to="$out/${1#"$root"/}"
    shift
    [ -r "$file" ] || return 0
    mkdir -p "$(dirname "$to")"
    "$@" <"$file" >"$to" && taken=$((taken + 1))
}
take_all "$root/proc" meminfo stat loadavg
# Some processors tell a serial number.
filter "$root/proc/cpuinfo" sed '/^[Ss]erial/d'
take "$root/proc/sys/kernel/osrelease"
take "$root/etc/nv_tegra_release"
take "$root/etc/nvpmodel.conf"
take "$root/etc/os-release"
take "$root/var/lib/nvpmodel/status"
take "$root/usr/local/cuda/version.json"
take "$root/sys/module/nvidia/version"
# Packages that say which libraries are there, and nothing about the rest of the machine.
filter "$root/var/lib/dpkg/status" awk 'BEGIN { RS = ""; ORS = "\n\n"; FS = "\n" }
    $1 ~ /^Package: (nvidia-l4t-|nvidia-jetpack|libnvinfer|libcudnn|cuda-)/ {
        print $1 (match($0, /\nVersion: [^\n]*/) ? substr($0, RSTART, RLENGTH) : "")
    }'
for tree in "$root/proc/device-tree" "$root/sys/firmware/devicetree/base"; do
    take_all "$tree" model compatible nvidia,boardids nvidia,dtsfilename
    if [ -f "$tree/serial-number" ] && [ -r "$tree/serial-number" ]; then
        mkdir -p "$out/${tree#"$root"/}"
        # Hashed, and marked as such, so that nobody takes it for the number.
        printf 'sha256:%s' "$(tr -d '\0' <"$tree/serial-number" | sha256sum | cut -d' ' -f1)" \
            >"$out/${tree#"$root"/}/serial-number"
    fi
done
take_all "$root/sys/class/dmi/id" board_name board_vendor product_name sys_vendor

# Clocks and loads. Directories below /sys/class and /sys/bus are links; they are entered by name and become directories.
for cpu in "$root"/sys/devices/system/cpu/cpu[0-9]*; do
    take_all "$cpu/cpufreq" scaling_cur_freq scaling_min_freq scaling_max_freq scaling_governor cpuinfo_max_freq
    take_all "$cpu/thermal_throttle" '*_throttle_count'
done
take_all "$root/sys/devices/system/cpu" online possible
for gpu in "$root"/sys/class/devfreq/*; do
    take_all "$gpu" cur_freq min_freq max_freq governor available_frequencies
    take_all "$gpu/device" load enable_3d_scaling railgate_enable tpc_pg_mask
    take "$gpu/device/of_node/name"
done
take_all "$root/sys/devices/platform/gpu.0" load
take_all "$root/sys/kernel/debug/bpmp/debug/clk/emc" rate max_rate min_rate mrq_rate_locked
take "$root/sys/kernel/debug/cactmon/mc_all"
take "$root/sys/kernel/debug/bpmp/debug/actmon/mc_all_avg_activity"
take "$root/sys/kernel/actmon_avg_activity/mc_all"
take "$root/sys/kernel/nvpmodel_emc_cap/emc_iso_cap"
filter "$root/sys/kernel/debug/nvmap/iovmm/clients" awk 'NR > 1 && NF > 3 { $2 = "process" } { print }'

# Rails, temperatures, over-current counters, fan.
for device in "$root"/sys/bus/i2c/devices/*; do
    case "$(cat "$device/name" 2>/dev/null)" in *ina3221* | *ina238*) ;; *) continue ;; esac
    take "$device/name"
    for monitor in "$device"/hwmon/hwmon*; do
        take_all "$monitor" name 'in*_label' 'in*_input' 'power*_label' 'power*_input' 'curr*_input' 'curr*_max' 'curr*_crit' 'curr*_alarm'
    done
done
for monitor in "$root"/sys/class/hwmon/hwmon*; do
    take_all "$monitor" name 'oc*_event_cnt' 'oc*_throt_en' pwm1 rpm fan1_input 'temp*_label' 'temp*_input'
done
for zone in "$root"/sys/devices/virtual/thermal/thermal_zone* "$root"/sys/class/thermal/thermal_zone* \
    "$root"/sys/class/thermal/cooling_device*; do
    take_all "$zone" type temp cur_state max_state
done

echo "$taken files in $out; $refused could not be read$([ -f "$out/unreadable.txt" ] && echo " (named in unreadable.txt)")"
