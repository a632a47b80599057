#!/bin/bash
# Start and reload as systemd sees them: READY only when serving, a reload that waits and fails loudly, and a status that says it.
. /rig/in/sexton/packaging/acceptance/guest/prelude.sh

install_sexton >/dev/null 2>&1

# --- READY only when serving ---

systemctl stop sexton
# Somebody else writes to the database for some seconds; the start has to wait for that.
python3 - <<'PYTHON' &
import sqlite3, time
with sqlite3.connect("/var/lib/sexton/sexton.db", isolation_level=None) as c:
    c.execute("begin immediate"); open("/run/held", "w").close(); time.sleep(3); c.execute("rollback")
PYTHON
check "(the database is held)" eventually 20 test -e /run/held
systemctl start sexton & starter=$!
check "while it cannot work yet, it is starting" eventually 20 state_is activating
wait $starter
check "the start succeeds when it can work" equal $? 0
check "whoever waited for the start may ask at once" sexton status
wait %1

check "a unit that comes after it finds it serving" systemd-run --quiet --wait --pipe \
    --property After=sexton.service --property Requires=sexton.service /usr/bin/sexton status
check "systemctl status says what is in force" matches "$(property StatusText)" '^0 schedules, revision [0-9a-f]+$'

# --- reload ---

pid=$(main_pid)
word() { sexton show bell --json | json 'd["params"]["argv"][1]'; }
bell() { printf '[command]\nargv = ["echo", "%s"]\n' "$1" | schedule bell; }
bell one
check "reload succeeds" systemctl reload sexton
check "a reload returns when the new definition is in force" equal "$(word)" one

# So many files that reading them takes a while.
for n in $(seq 2000); do printf '[command]\nargv = ["true"]\n' >"/etc/sexton/schedules/many$n.toml"; done
bell two
timed systemctl reload sexton
check "a reload of 2000 files waits for all of them ($took ms)" equal "$status $(word)" "0 two"
check "... none is missing" equal "$(sexton status --json | json 'd["schedules"]')" 2001
rm /etc/sexton/schedules/many*.toml
check "... and they can go" systemctl reload sexton

before=$(up)
printf '[command]\nargv = ["echo", "three"]\n\n  argvv = 3\n' | schedule bell
timed systemctl reload sexton
check "a reload of a broken file fails" test "$status" != 0
check "the service goes on all the same" equal "$(property ActiveState) $(main_pid)" "active $pid"
check "the last good definition is in force" equal "$(word)" two
check "... and works" sexton run bell --wait
check "systemctl status says which file is broken, and where" eventually 10 status_says '/etc/sexton/schedules/bell\.toml:4:3'
check "the journal says it as an error" eventually 10 said_since "$before" 'bell\.toml:4:3' --priority err
check "sexton status says it" matches "$(sexton status)" 'bell\.toml:4:3'

bell four
check "with the file corrected a reload succeeds" systemctl reload sexton
check "the new definition is in force" equal "$(word)" four
check "systemctl status has nothing to complain about" eventually 10 status_says '^1 schedules, revision [0-9a-f]+$'

# Nobody asks for this one: the daemon sees the file.
printf '[comand]\n' | schedule bell
check "a broken file that was merely saved shows in systemctl status" eventually 30 status_says 'bell\.toml'
bell five
check "... and the corrected one too" eventually 30 status_says 'revision [0-9a-f]+$'
is_word() { equal "$(word)" "$1"; }
check "... and is in force" eventually 30 is_word five

mv /etc/sexton/schedules /etc/sexton/elsewhere
timed systemctl reload sexton
check "a reload without the directory fails" test "$status" != 0
check "... and takes no schedule with it" equal "$(word)" five
check "... and systemctl status names the directory" eventually 10 status_says '/etc/sexton/schedules'
mv /etc/sexton/elsewhere /etc/sexton/schedules
check "with the directory back a reload succeeds" systemctl reload sexton

bell six
kill -HUP "$(main_pid)"
check "SIGHUP reloads" eventually 30 is_word six
check "after SIGHUP it is active again" eventually 30 state_is active
for _ in $(seq 100); do kill -HUP "$(main_pid)"; done
bell seven
check "a hundred SIGHUPs end in the state of the disk" eventually 30 is_word seven
check "... and in an active service" eventually 30 state_is active
check "it was the same process all the time" equal "$(main_pid) $(restarts)" "$pid 0"

# --- notify-reload, where systemd has it ---

if [[ $(systemctl --version | awk 'NR == 1 { print $2 }') -ge 253 ]]; then
    drop_in reload <<<$'Type=notify-reload\nExecReload='
    systemctl restart sexton
    bell eight
    check "with Type=notify-reload a reload returns when it is done" systemctl reload sexton
    check "... and the new definition is in force" equal "$(word)" eight
    no_drop_in reload
else
    say "systemd has no Type=notify-reload before 253"
fi

finish
