#!/bin/bash
# The disk of the state fills up, is slow, fails: work stops, the service says so, and it goes on when it can.
. /rig/in/sexton/packaging/acceptance/guest/prelude.sh

install_sexton >/dev/null 2>&1
state=/var/lib/sexton
systemctl stop sexton
# With its logs: a database that is older than its audit log is refused.
rm -rf ${state:?}/* /var/log/sexton/*
bad-disk make $state 48 >/dev/null 2>&1
drop_in disk <<<'RestartSec=500ms'
check "(its state is on a disk of its own)" systemctl start sexton

api() { python3 -c 'import sys; from sexton_api import call; print(*call(*sys.argv[1:3]))' "$@"; }
submission='{"kind": "command", "params": {"argv": ["true"]}}'
try_submit() { python3 -c 'import json, sys; from sexton_api import call; print(*call("POST", "/api/v1/jobs", json.loads(sys.argv[1])))' "$submission"; }
refuses() { matches "$(try_submit)" '^(503|507) '; }
accepts() { matches "$(try_submit)" '^202 '; }
complains() { matches "$(sexton status --json | json 'd["problems"]')" "$1"; }
is_ready() { matches "$(api GET /readyz)" '^200 '; }
is_not_ready() { matches "$(api GET /readyz)" '^503 '; }

# trouble NAME PATTERN: what has to hold while nothing can be written.
trouble() {
    check "$1: submissions are refused with 503 or 507" eventually 60 refuses
    check "$1: the service lives on" equal "$(property ActiveState) $(main_pid)" "active $pid"
    check "$1: it says that it is not ready" eventually 30 is_not_ready
    check "$1: sexton status says why" eventually 30 complains "$2"
    check "$1: systemctl status says why" eventually 30 status_says "$2"
    local position lines
    position=$(up)
    sleep 5
    lines=$(messages_since "$position" | wc -l)
    check "$1: it does not fill the journal ($lines lines in 5 s)" between "$lines" 0 60
}

recovers() {
    check "$1: with the disk back it takes jobs, without any help" eventually 60 accepts
    check "$1: it is ready" eventually 60 is_ready
    check "$1: it is the same process" equal "$(main_pid)" "$pid"
    check "$1: what was accepted before is done" eventually 60 job_is "$accepted" completed
    check "$1: the job that ran meanwhile is recorded" eventually 60 job_is "$running" completed
    check "$1: it has run once" equal "$(outcomes "$running")" success
    check "$1: it complains no more" eventually 30 complains '^\[\]$'
    check "$1: the database is sound" sexton db check
}

begin() {
    pid=$(main_pid)
    accepted=$(command_job true)
    running=$(command_job 'sleep 4')
    check "$1: (a job runs)" eventually 20 job_is "$running" running
}

# --- B1: full ---

begin full
# It stands still while the disk is filled. A write that failed half-way would have it give up its room while there is still somebody who
# takes all there is, and that room with it.
kill -STOP "$pid"
bad-disk full $state
kill -CONT "$pid"
trouble full 'disk is full|No space|full'
check "full: what ends meanwhile is recorded in the room that was kept" eventually 30 job_is "$running" completed
bad-disk free $state
recovers full

# --- B1: full when it starts ---
#
# A start that takes that for damage ends with 65, which systemd does not try again, and tells people to restore a backup over good data.

accepted=$(command_job true)
check "full at the start: (a job is done)" eventually 30 job_is "$accepted" completed
systemctl stop sexton
bad-disk full $state
position=$(up)
check "full at the start: it starts" systemctl start sexton
pid=$(main_pid)
check "full at the start: submissions are refused with 503 or 507" eventually 60 refuses
check "full at the start: it says why" eventually 30 complains 'disk is full|No space|full'
check "full at the start: nothing is called damaged" equal "$(messages_since "$position" | grep -c 'not sound\|damaged')" 0
bad-disk free $state
check "full at the start: with room it takes jobs, without any help" eventually 60 accepts
check "full at the start: it is the same process" equal "$(main_pid)" "$pid"
check "full at the start: what was done before is there" job_is "$accepted" completed

# --- B6: slow ---

pid=$(main_pid)
bad-disk slow $state 300
slow=$(command_job true)
check "slow: jobs are done all the same" eventually 60 job_is "$slow" completed
check "slow: the service lives on" equal "$(property ActiveState) $(main_pid)" "active $pid"
bad-disk ok $state

# --- B4: it fails ---
#
# Not shown here is a disk that turns read-only (B3): a mount cannot be made so while files are open for writing, and after an error
# for which the kernel made it so, it went on taking writes and syncs of open files. The store's tests show what it does with the refusal.
#
# Nobody knows then what is on the disk, so nothing may be acknowledged any more: whether the daemon lives on or is tried again and
# again, the disk is repaired, and it goes on from what is really there.

accepts_nothing() { ! accepts 2>/dev/null; }
says_why() { said_since "$position" "$1" --priority err; }
repair() {
    systemctl stop sexton
    # The daemon could not stay, so nobody has ended what it had left running for the next one, and that holds the disk.
    systemctl kill --kill-whom=all --signal=KILL sexton 2>/dev/null || pkill -KILL -u sexton || true
    bad-disk ok $state
    eventually 20 umount $state
    fsck.ext4 -fy /dev/mapper/bad-* >/dev/null 2>&1
    mount -o errors=remount-ro /dev/mapper/bad-* $state
}

# fails NAME WHY BREAK-COMMAND...
fails() {
    local name=$1 why=$2 accepted running
    shift 2
    accepted=$(command_job true)
    running=$(command_job '[ $SEXTON_ATTEMPT -gt 1 ] || sleep 30')
    check "$name: (a job runs)" eventually 20 job_is "$running" running
    position=$(up)
    "$@"
    check "$name: nothing is accepted" eventually 60 accepts_nothing
    check "$name: the journal says why" eventually 60 says_why "$why"
    sleep 5
    say "state $(property ActiveState), result $(property Result), restarts $(restarts), $(messages_since "$position" | wc -l) lines in the journal"
    check "$name: it still accepts nothing" accepts_nothing
    check "$name: it does not fill the journal" between "$(messages_since "$position" | wc -l)" 1 400
    repair
    check "$name: with the disk repaired it starts" systemctl start sexton
    check "$name: the database is sound" sexton db check
    check "$name: what was acknowledged is done" eventually 60 job_is "$accepted" completed
    check "$name: what ran is done" eventually 60 job_is "$running" completed
    check "$name: the audit log is intact" sexton audit verify
}

fails "failing writes" 'I/O error|cannot be written|damaged' bad-disk eio-write $state
fails "failing reads and writes" 'I/O error|cannot|damaged' bad-disk eio $state

finish
