#!/bin/bash
# Programs outlive their daemon: a restart, an upgrade and a kill leave them running, a stop ends them.
. /rig/in/sexton/packaging/acceptance/guest/prelude.sh

install_sexton >/dev/null 2>&1
drop_in keep <<<$'RestartSec=100ms\n[Unit]\nStartLimitIntervalSec=0'
systemctl restart sexton
tmp=/var/lib/sexton/tmp
marks=$tmp/marks
outlasts='echo $$ >>'$marks'; echo mine >/tmp/of-a-job; until [ -e '$tmp'/go ]; do sleep 0.2; done; grep -q mine /tmp/of-a-job && echo over'
cgroup() { echo "/sys/fs/cgroup$(property ControlGroup)"; }
left() { cat "$(cgroup)/cgroup.procs" 2>/dev/null | wc -l; }
is_alive() { [[ -d /proc/$1 ]]; }
has_marks() { equal "$(wc -l <$marks)" "$1"; }
# The daemon, and the keeper of its own commands.
is_idle() { equal "$(left)" 2; }

job=$(command_job "$outlasts")
check "(a job runs)" eventually 20 has_marks 1
program=$(cat $marks)

# --- restart ---

for round in 1 2; do
    pid=$(main_pid)
    timed systemctl restart sexton
    check "restart $round succeeds" equal "$status" 0
    check "... and does not wait for the job ($took ms)" between "$took" 0 15000
    check "... with another daemon" another_pid_than "$pid"
    check "... and the program goes on" is_alive "$program"
    check "... as the same attempt" job_is "$job" running
done

# --- upgrade: the file is replaced, then the service restarted ---

cp /usr/bin/sexton /usr/bin/sexton.new
mv /usr/bin/sexton.new /usr/bin/sexton
second=$(command_job "$outlasts")
check "(a job begins between the new file and the restart)" eventually 20 has_marks 2
check "an upgrade's restart succeeds" systemctl restart sexton
check "... and both programs go on" is_alive "$program"

# --- crashes ---

pid=$(main_pid)
systemctl kill --kill-whom=main --signal=KILL sexton
check "after kill -9 systemd starts another daemon" eventually 60 another_pid_than "$pid"
check "it serves" eventually 60 is_serving
check "the program goes on" is_alive "$program"

# --- what is not kept, and what hides from its job ---

hides='(setsid env -i /bin/sleep 7778 &); exec sleep 7779'
given_back=$(command_job '[ $SEXTON_ATTEMPT -gt 1 ] || { '"$hides"'; }' kill)
both_there() { equal "$(pgrep -fc '^(/bin/)?sleep 777[89]')" 2; }
check "(a job that is not kept runs, with a process that hides)" eventually 20 both_there
pid=$(main_pid)
systemctl kill --kill-whom=main --signal=KILL sexton
check "after kill -9 systemd starts another daemon" eventually 60 another_pid_than "$pid"
check "a job that is not kept runs again" eventually 60 job_is "$given_back" completed
check "... and nothing of it is left" equal "$(pgrep -fc '^(/bin/)?sleep 777[89]')" 0
check "... while the program that is kept goes on" is_alive "$program"

# --- the end ---

touch $tmp/go
check "the first job completes" eventually 30 job_is "$job" completed
check "... at its first attempt" equal "$(outcomes "$job")" success
check "... with its own /tmp as it left it" equal "$(sexton logs "$job")" over
check "so does the second" eventually 30 job_is "$second" completed
check "... at its first attempt" equal "$(outcomes "$second")" success
check "no program was started twice" has_marks 2
rm $tmp/go

# --- a stop is no restart ---

echo "SEXTON_SHUTDOWN__GRACE=1s" >/etc/default/sexton
systemctl restart sexton
job=$(command_job "$outlasts")
check "(a job runs)" eventually 20 has_marks 3
program=$(tail -n 1 $marks)
group=$(cgroup)
timed systemctl stop sexton
check "a stop succeeds ($took ms)" equal "$status $(property Result)" "0 success"
check "... and ends the program" not is_alive "$program"
check "... and everything else, the keeper too" equal "$(cat "$group/cgroup.procs" 2>/dev/null | wc -l)" 0
touch $tmp/go
systemctl start sexton
check "its job runs again" eventually 30 job_is "$job" completed
check "... uncharged" equal "$(outcomes "$job")" "interrupted success"
check "in the end there are the daemon and its keeper" eventually 20 is_idle
check "the audit log is intact" sexton audit verify

finish
