#!/bin/bash
# Restarts, kills and a reboot while jobs come in: what was acknowledged is done, no second is forgotten or counted twice.
. /rig/in/sexton/packaging/acceptance/guest/prelude.sh
KILLS=12
RESTARTS=3

load=/var/lib/acknowledged
start_load() { submit-load "$load" & loader=$!; }
stop_load() { kill "$loader"; wait "$loader" 2>/dev/null; }
grows() { local was=$1; [[ $(cat "$load") != "$was" ]]; }
all_done() { nothing-lost "$(cat $load)" --ended; }

if [[ $RIG_BOOT -eq 1 ]]; then
    install_sexton >/dev/null 2>&1
    drop_in restart <<<$'RestartSec=100ms\n[Unit]\nStartLimitIntervalSec=0'
    schedule tick <<'SCHEDULE'
[when]
every = "1s"
catch_up = "all"

[command]
argv = ["true"]
SCHEDULE
    systemctl restart sexton
    start_load
    for round in $(seq $RESTARTS); do
        was=$(cat $load 2>/dev/null)
        check "(jobs come in)" eventually 30 grows "$was"
        check "restart $round under load" systemctl restart sexton
    done
    for round in $(seq $KILLS); do
        was=$(cat $load)
        eventually 60 grows "$was" >/dev/null
        sleep "0.$((RANDOM % 10))"
        pid=$(main_pid)
        systemctl kill --kill-whom=main --signal=KILL sexton
        eventually 60 another_pid_than "$pid" >/dev/null
    done
    check "it survives $KILLS times kill -9 under load" eventually 60 is_serving
    check "systemd started it again each time" between "$(restarts)" $KILLS $KILLS
    was=$(cat $load)
    check "(jobs come in)" eventually 60 grows "$was"
    say "rebooting with jobs under way; acknowledged so far: $(cat $load)"
    sync
    trap - EXIT
    systemctl reboot
    sleep 60
fi

check "after the reboot it runs" eventually 60 is_serving
said_last_boot() { journalctl --quiet --boot -1 --unit sexton --no-pager --output cat | grep -x -- "$1" >/dev/null; }
check "it had been stopped in order" said_last_boot stopped
check "every acknowledged job is done, once, and only kills interrupted any" eventually 120 all_done
say "$(all_done)"
check "every second has its row" eventually 10 ledger-of-seconds tick
say "$(ledger-of-seconds tick)"
check "the database is sound" sexton db check
check "the audit log is intact" sexton audit verify

finish
