#!/bin/bash
# The wall clock stands still, jumps, goes back: no instant twice, no flood of jobs, nothing deleted, and it goes on.
. /rig/in/sexton/packaging/acceptance/guest/prelude.sh

install_sexton >/dev/null 2>&1
schedule tick <<'SCHEDULE'
[when]
every = "1s"

[command]
argv = ["true"]
SCHEDULE
schedule hourly <<'SCHEDULE'
[when]
cron = "30 * * * *"
timezone = "UTC"
catch_up = "all"
catch_up_max = 3

[run]
overlap = "queue_all"

[command]
argv = ["true"]
SCHEDULE
systemctl restart sexton

jobs_of() { sexton jobs --schedule "$1" --json --limit 1000 | json 'len(d["items"])'; }
newest_of() { sexton why "$1" --json --limit 1 | json 'd["items"][0]["nominal_at"]'; }
ticks() { [[ $(newest_of tick) != "$1" ]]; }
# Whether the last decided second is one of the last five by the clock as it is now.
keeps_up() { between $(($(date +%s) - $(date -d "$(newest_of tick)" +%s))) -1 5; }
works() { local job; job=$(command_job true) && eventually 20 job_is "$job" completed; }
set_clock() { date -s "$1" >/dev/null; say "the clock says $(date -u +%FT%TZ)"; }
offset_ms=$(($(date +%s%3N) - $(uptime_ms)))
clock_is_right() { set_clock "@$(((offset_ms + $(uptime_ms)) / 1000))"; }
# no_flood NAME JOBS-BEFORE: at most one job a second since, and a handful for what was missed.
no_flood() {
    local more=$(($(jobs_of "$1") - $2)) seconds=$((($(uptime_ms) - since) / 1000))
    echo "$more more jobs in $seconds s"
    [[ $more -le $((seconds + 5)) ]]
}
begin() {
    since=$(uptime_ms)
    ticks_before=$(jobs_of tick)
    hourly_before=$(jobs_of hourly)
    position=$(up)
}
after_it() {
    check "$1: it goes on at the new time" eventually 40 keeps_up
    check "$1: no flood of jobs" no_flood tick "$ticks_before"
    check "$1: what catches up is bounded" between "$(jobs_of hourly)" "$hourly_before" $((hourly_before + 4))
    check "$1: jobs that are submitted run" works
    check "$1: it is the same process" equal "$(main_pid) $(restarts)" "$pid 0"
}

check "(it ticks)" eventually 30 ticks none
kept=$(command_job true)
pid=$(main_pid)

begin
pause-machine 7
after_it "D6, the machine stood still"
check "D6, the machine stood still: every second has its row" eventually 10 ledger-of-seconds tick

begin
set_clock '+2 hours'
after_it "D3, +2 h"
check "D3, +2 h: the journal tells of it" eventually 10 said_since "$position" 'wall clock was set'
check "D3, +2 h: every second has its row" eventually 10 ledger-of-seconds tick
say "$(ledger-of-seconds tick)"
check "D3, +2 h: the hours that were missed have run" between "$(jobs_of hourly)" 2 3

# Each second of the repeated hour was decided before. An interval keeps its pace all the same, under names of its own.
begin
set_clock '-1 hour'
after_it "D5, -1 h"

begin
set_clock '-4 hours'
after_it "D5, another -4 h"
check "D5, another -4 h: the journal tells of it" said_since "$position" 'set back'

begin
clock_is_right
after_it "the clock is corrected"

begin
set_clock '+10 years'
after_it "D4, +10 years"
systemctl restart sexton
pid=$(main_pid)
# Its housekeeping begins 20 s after the start.
sleep 25
check "D4, +10 years: history is not deleted" job_is "$kept" completed
check "D4, +10 years: sexton status says that something is wrong with the clock" matches "$(sexton status)" 'clock'

begin
clock_is_right
after_it "D4, back from +10 years"

systemctl stop sexton
set_clock @1000000
last=$(newest_of tick)
check "D7, a start in 1970: it serves" systemctl start sexton
pid=$(main_pid)
sleep 5
check "D7, a start in 1970: nothing is decided for that time" equal "$(newest_of tick)" "$last"
check "D7, a start in 1970: the journal says what it waits for" said 'the clock is'
begin
clock_is_right
after_it "D7, the clock is set"

check "no instant has two rows or two jobs" ledger-of-seconds tick --clock-went-back
say "$(ledger-of-seconds tick --clock-went-back)"
check "the job from before all this is still there" job_is "$kept" completed
check "the database is sound" sexton db check
check "the audit log is intact" sexton audit verify

finish
