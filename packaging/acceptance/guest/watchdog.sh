#!/bin/bash
# A daemon that has stalled is killed by systemd's watchdog and started again, and nothing runs twice at once.
. /rig/in/sexton/packaging/acceptance/guest/prelude.sh

install_sexton >/dev/null 2>&1
check "the unit asks for a watchdog" equal "$(property WatchdogUSec)" 30s
# The same with less patience, for the sake of this test.
drop_in watchdog <<<$'WatchdogSec=6\nRestartSec=100ms'
systemctl restart sexton

fed() { systemctl show --value --property WatchdogTimestampMonotonic sexton.service; }
first=$(fed)
is_fed_again() { [[ $(fed) != "$first" ]]; }
check "a healthy daemon feeds it" eventually 20 is_fed_again

# A job that must not be there twice at a time: each execution marks its begin and, if it is allowed to end, its end.
marks=/var/lib/sexton/tmp/marks
one_at_a_time='echo "begin $SEXTON_ATTEMPT $(pgrep -fc "^sleep 7777")" >>'$marks'; [ "$SEXTON_ATTEMPT" -gt 1 ] || sleep 7777'
job=$(command_job "$one_at_a_time" kill)
kept=$(command_job 'until [ -e /var/lib/sexton/tmp/go ]; do sleep 0.2; done')
check "(another one runs, which is kept)" eventually 20 job_is "$kept" running
check "(the job runs)" eventually 20 job_is "$job" running

# --- stopped as a whole ---

pid=$(main_pid)
before=$(up)
kill -STOP "$pid"
began=$(uptime_ms)
check "a daemon that stands still is killed and started again" eventually 60 another_pid_than "$pid"
say "after $(($(uptime_ms) - began)) ms"
check "systemd says why" said_since "$before" 'Watchdog timeout'
check "it was killed with SIGABRT" said_since "$before" 'status=6/ABRT'
check "it serves again" eventually 30 is_serving
check "its job was given back and has run again" eventually 30 job_is "$job" completed
check "... uncharged" equal "$(outcomes "$job")" "interrupted success"
check "... and never twice at once" equal "$(cat $marks)" $'begin 1 0\nbegin 2 0'
touch /var/lib/sexton/tmp/go
check "the one that is kept went on" eventually 30 job_is "$kept" completed
check "... from the beginning to the end" equal "$(outcomes "$kept")" success

# --- stalled inside: the process lives, its event loop does not ---

pid=$(main_pid)
before=$(up)
stall-threads "$pid" '^tokio' &
check "a daemon whose event loop stalls is killed and started again" eventually 60 another_pid_than "$pid"
check "systemd says why" said_since "$before" 'Watchdog timeout'
check "it serves again" eventually 30 is_serving

# --- and a machine that stands still is no fault of the daemon's ---

pid=$(main_pid)
restarts=$(restarts)
# It has been fed a moment ago, and then nobody runs for longer than the watchdog waits.
pause-machine 8
sleep 4
check "after a pause of the whole machine it serves" eventually 30 is_serving
say "restarts by the pause: $(($(restarts) - restarts))"
check "the database is sound" sexton db check
check "the audit log is intact" sexton audit verify

finish
