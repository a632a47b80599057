# What every script in the guest begins with: checks that print TAP lines, waiting, and the service as it is installed.
#
# The clone's relevant part is in /rig/in/sexton, laid out as in the clone. Sourced, not run.
set -uo pipefail

HERE=/rig/in/sexton/packaging/acceptance/guest
PATH=$HERE:$PATH
export PYTHONPATH=$HERE PYTHONDONTWRITEBYTECODE=1
checks=0
failures=0

# check DESCRIPTION COMMAND...: one check, which holds when the command ends with 0.
check() {
    local what=$1 said status
    shift
    checks=$((checks + 1))
    said=$("$@" 2>&1)
    status=$?
    if [[ $status -eq 0 ]]; then
        echo "ok $checks - $what"
        return
    fi
    failures=$((failures + 1))
    echo "not ok $checks - $what"
    echo "#   [$*] ended with $status"
    tail -n 20 <<<"$said" | sed 's/^/#   /'
}

# What is worth knowing and no check.
say() { echo "# $*"; }

# Ends the script. One that ends in another way has not done all its checks, and is told apart by that.
finish() {
    trap - EXIT
    if [[ $failures -gt 0 ]]; then
        say "what the service said last:"
        journalctl --quiet --unit sexton --lines 60 --no-pager --output short-precise | sed 's/^/#   /'
    fi
    exit $((failures > 0))
}
trap 'echo "not ok $((checks + 1)) - the script ended before its last check"; exit 1' EXIT

# --- Conditions for `check` and `eventually` ---

not() { ! "$@"; }
equal() { [[ $1 == "$2" ]] || { echo "expected [$2], found [$1]"; return 1; }; }
matches() { grep -qE -- "$2" <<<"$1" || { echo "expected /$2/ in [$1]"; return 1; }; }
between() { [[ $1 -ge $2 && $1 -le $3 ]] || { echo "expected $2 to $3, found $1"; return 1; }; }

# eventually SECONDS COMMAND...: waits until the command ends with 0. The seconds are those of a clock that nobody sets.
eventually() {
    local until=$(($(uptime_ms) + $1 * 1000)) said
    shift
    until said=$("$@" 2>&1); do
        if [[ $(uptime_ms) -gt $until ]]; then
            echo "it did not happen in time; at last: $said"
            return 1
        fi
        sleep 0.1
    done
}

uptime_ms() {
    local up
    read -r up _ </proc/uptime
    echo "${up/./}0"
}

# timed COMMAND...: runs it and leaves its status in $status, its duration in $took (ms), what it printed in $said.
timed() {
    local began
    began=$(uptime_ms)
    said=$("$@" 2>&1)
    status=$?
    took=$(($(uptime_ms) - began))
}

# json EXPRESSION: evaluates a Python expression over the document `d` on stdin, and prints it.
json() { python3 -c 'import json, sys; d = json.load(sys.stdin); print(eval(sys.argv[1]))' "$1"; }

# --- The service ---

# Installs it with the commands of docs/operations.md themselves, so that they are known to work.
install_sexton() {
    awk '/^## Installing/ { wanted = 1 } wanted && /^```$/ { exit } inside { print } wanted && /^```sh$/ { inside = 1 }' \
        /rig/in/sexton/docs/operations.md >/run/install.sh
    (cd /rig/in/sexton && bash -euxo pipefail /run/install.sh)
}

property() { systemctl show --value --property "$1" sexton.service; }
state_is() { equal "$(property ActiveState)" "$1"; }
status_says() { matches "$(property StatusText)" "$1"; }
is_serving() { sexton status >/dev/null 2>&1; }
restarts() { property NRestarts; }
main_pid() { property MainPID; }
another_pid_than() { local pid; pid=$(main_pid); [[ $pid != 0 && $pid != "$1" ]] && state_is active; }

# The journal of the service in this boot: journal [OPTION...]
journal() { journalctl --quiet --boot --unit sexton --no-pager "$@"; }
# messages_since UPTIME [OPTION...]: by a clock that nobody sets; and by hand, because a cursor (--after-cursor) loses a message
# where there is a filter as well.
messages_since() {
    local since=$1
    shift
    journal --output short-monotonic "$@" \
        | awk -v since="$since" '{ stamp = $0; sub(/^\[ */, "", stamp) } stamp + 0 >= since + 0'
}
# said_since UPTIME PATTERN [OPTION...]: whether a message about the service matches; systemd's own are among them.
# Not `grep -q`: it would end before the pipe does, which counts as a failure.
said_since() { messages_since "$1" "${@:3}" | grep -E -- "$2" >/dev/null; }
said() { said_since 0 "$@"; }
up() { local up; read -r up _ </proc/uptime; echo "$up"; }

# drop_in NAME < lines: adds to the unit.
drop_in() {
    mkdir -p /etc/systemd/system/sexton.service.d
    { echo "[Service]"; cat; } >"/etc/systemd/system/sexton.service.d/$1.conf"
    systemctl daemon-reload
}
no_drop_in() {
    rm -f "/etc/systemd/system/sexton.service.d/$1.conf"
    systemctl daemon-reload
}

# schedule NAME < text: writes a schedule as careful editors do.
schedule() {
    cat >"/etc/sexton/schedules/.$1.new"
    mv "/etc/sexton/schedules/.$1.new" "/etc/sexton/schedules/$1.toml"
}

# command_job SHELL-TEXT [ON_RESTART]: submits a job and prints its number.
command_job() {
    local params
    params=$(python3 -c 'import json, sys; print(json.dumps({"shell": sys.argv[1], "on_restart": sys.argv[2]}))' "$1" "${2:-keep}")
    sexton submit command --json --params "$params" | json 'd["id"]'
}
job_state() { sexton job "$1" --json | json 'd["state"]'; }
job_is() { equal "$(job_state "$1")" "$2"; }
outcomes() { sexton job "$1" --json | json '" ".join(a["outcome"] for a in d["attempts"])'; }
