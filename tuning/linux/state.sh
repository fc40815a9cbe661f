# shellcheck shell=sh
# Old values of files below /proc/sys and /sys, kept so that they can be put back exactly.
# Read by tune and nic; not run by itself.
#
# The rule that makes an interruption harmless: before the first change, all old values are in the
# state file, written aside, synced and renamed. Whatever is there already stays: it is older.
# A state of an earlier boot is worth nothing, because the settings went with that boot.

tab=$(printf '\t')
failures=0

say() { printf '%s\n' "$*"; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 2; }

# Old values that can't be kept are a reason to change nothing.
no_room() {
    rm -f "$pending"
    die "old values can't be kept in $state (is the disk full?): nothing was changed by this run"
}

# Opens a state file: makes its folder, keeps other runs out, drops what an earlier boot left.
open_state() {
    state=$1
    pending=$state.pending.$$
    mkdir -p "$(dirname "$state")" 2>/dev/null ||
        die "the folder of $state can't be made: run as root, or choose another with --state"
    : 2>/dev/null >>"$state.lock" || die "$state can't be written: run as root, or use --state"
    exec 9>>"$state.lock"
    if command -v flock >/dev/null 2>&1; then
        flock -n 9 || die "another run is under way ($state.lock)"
    fi
    boot=$(cat /proc/sys/kernel/random/boot_id 2>/dev/null || echo unknown)
    if [ -f "$state" ]; then
        # A file that is cut off or is something else is nothing to decide by.
        sed -n 1p "$state" | grep -q '^boot .' ||
            die "$state is damaged: look at it, and remove it if nothing is to be put back"
    fi
    if [ -f "$state" ] && [ "$(sed -n 1p "$state")" != "boot $boot" ]; then
        say "the values kept in $state are of an earlier boot and went with it: dropped"
        rm -f "$state" "$state.queues"
    fi
    rm -f "$state".pending.*
    echo "boot $boot" 2>/dev/null >"$pending" || no_room
    [ ! -f "$state" ] || sed 1d "$state" 2>/dev/null >>"$pending" || no_room
}

# The value of a file in one line, single spaces.
value_of() { tr -s '\t\n ' '   ' <"$1" 2>/dev/null | sed 's/^ //; s/ $//'; }

# Notes the old value of a file, unless an older one is known.
remember() {
    grep -q "^$1$tab" "$pending" ||
        printf '%s\t%s\n' "$1" "$(value_of "$1")" 2>/dev/null >>"$pending" || no_room
}

# From here on what was remembered survives this run.
keep_state() {
    sync "$pending" 2>/dev/null || sync || no_room
    mv "$pending" "$state" || no_room
    sync "$(dirname "$state")" 2>/dev/null || sync
}

# Writes a value; says so. $1 file, $2 value, $3 what to call it, $4 what it means if that fails.
write_value() {
    old=$(value_of "$1")
    if ! printf '%s\n' "$2" 2>/dev/null >"$1" || [ "$(value_of "$1")" != "$2" ]; then
        say "NOT SET $3: it stays $old, $2 was wanted. Without it: $4"
        failures=$((failures + 1))
        return 1
    fi
    say "$3: $old -> $2"
}

# Puts every value back. Two rounds, because some settings change each other: vm.dirty_bytes = 0
# can't be written, but writing vm.dirty_ratio makes it so.
undo_state() {
    if [ ! -f "$state" ]; then
        rm -f "$pending" "$state.lock"
        say "nothing to undo: $state does not exist"
        return 0
    fi
    for round in 1 2; do
        left=0
        while IFS=$tab read -r file value; do
            { [ -n "$value" ] && [ -e "$file" ]; } || continue # a queue may be gone
            now=$(value_of "$file")
            [ "$now" != "$value" ] || continue
            if printf '%s\n' "$value" 2>/dev/null >"$file" && [ "$(value_of "$file")" = "$value" ]
            then
                say "$(name_of "$file"): $now -> $value"
            else
                left=$((left + 1))
                [ "$round" = 1 ] || say "NOT PUT BACK $(name_of "$file"): $now, was $value"
            fi
        done <"$state"
        [ "$left" -gt 0 ] || break
    done
    rm -f "$pending"
    if still_different; then
        say "some values are not what they were; $state is kept: try again as root"
        return 1
    fi
    rm -f "$state" "$state.lock"
    say "all is as it was"
}

# Whether anything is not as it was.
still_different() {
    while IFS=$tab read -r file value; do
        { [ -n "$value" ] && [ -e "$file" ]; } || continue
        [ "$(value_of "$file")" = "$value" ] || return 0
    done <"$state"
    return 1
}

# A file as an operator calls it.
name_of() {
    case $1 in
        /proc/sys/*) printf '%s' "${1#/proc/sys/}" | tr / . ;;
        *) printf '%s' "$1" ;;
    esac
}
