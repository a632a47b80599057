#!/bin/bash
# Stopping: jobs are drained, what outlasts the grace period is given back, nothing is left behind, and it is over in time.
. /rig/in/sexton/packaging/acceptance/guest/prelude.sh

install_sexton >/dev/null 2>&1
grace() { echo "SEXTON_SHUTDOWN__GRACE=$1" >/etc/default/sexton; systemctl restart sexton; }
cgroup() { echo "/sys/fs/cgroup$(property ControlGroup)"; }
left() { cat "$1/cgroup.procs" 2>/dev/null | wc -l; }

timed systemctl stop sexton
check "an idle daemon stops at once ($took ms)" between "$took" 0 5000
check "... and ends well" equal "$(property Result) $(property ExecMainStatus)" "success 0"
check "its socket is gone" test ! -e /run/sexton/sexton.sock

# --- drain ---

systemctl start sexton
job=$(command_job 'sleep 3; echo done')
check "(a job runs)" eventually 20 job_is "$job" running
timed systemctl stop sexton
check "a stop waits for the job that runs ($took ms)" between "$took" 500 25000
check "... whose end is recorded" equal "$(sexton job "$job" --json 2>/dev/null | json 'd["state"], [a["outcome"] for a in d["attempts"]]')" "('completed', ['success'])"

# --- longer than TimeoutStopSec, because the daemon says that it is still at it ---

drop_in stop <<<'TimeoutStopSec=3'
grace 30s
job=$(command_job 'sleep 6')
check "(a job runs)" eventually 20 job_is "$job" running
timed systemctl stop sexton
check "a drain that is longer than TimeoutStopSec is not cut off ($took ms)" between "$took" 3500 29000
check "... and ends well" equal "$(property Result)" success
no_drop_in stop

# --- what outlasts the grace period ---

grace 1s
marker=/var/lib/sexton/tmp/told
job=$(command_job 'trap "touch '$marker'; exit 9" TERM; [ $SEXTON_ATTEMPT -gt 1 ] || { sleep 7777 & wait; }')
check "(a job runs)" eventually 20 job_is "$job" running
timed systemctl stop sexton
check "a job that outlasts the grace period does not hold up the stop ($took ms)" between "$took" 0 30000
check "... it was told first" test -e $marker
check "... and the stop ended well" equal "$(property Result)" success
systemctl start sexton
check "after the next start it runs again" eventually 30 job_is "$job" completed
check "... and the first attempt is not charged" equal "$(outcomes "$job")" "interrupted success"

# --- a second signal skips the wait ---

grace 10m
job=$(command_job '[ $SEXTON_ATTEMPT -gt 1 ] || sleep 7777')
check "(a job runs)" eventually 20 job_is "$job" running
systemctl stop --no-block sexton
check "it drains" eventually 20 state_is deactivating
check "systemctl status says so" eventually 20 status_says Draining
sleep 1
check "... for as long as it takes" state_is deactivating
systemctl kill --kill-whom=main --signal=TERM sexton
check "a second TERM skips the wait" eventually 30 state_is inactive
check "... and it ends well" equal "$(property Result)" success
grace 1s
check "its job runs again" eventually 30 job_is "$job" completed

# --- the whole tree of children ---

# Ignores TERM; in sessions of their own; forked twice; forked twice, in a session of its own and without the mark that it is known by.
cat >/usr/local/bin/family <<'FAMILY'
#!/bin/bash
trap '' TERM HUP INT
sleep 7771 &
setsid sleep 7772 &
(setsid bash -c 'trap "" TERM; (sleep 7773 &) ; sleep 7774' &)
(setsid env -i /bin/sleep 7775 &)
wait
sleep 7776
FAMILY
chmod 755 /usr/local/bin/family
family_count() { pgrep -fc 'sleep 777[1-6]'; }
all_there() { equal "$(family_count)" 5; }
family_job() { sexton submit command --json --params '{"argv":["family"],"kill_grace":"1s"}' | json 'd["id"]'; }
job=$(family_job)
check "(a family of five runs)" eventually 20 all_there
group=$(cgroup)
timed systemctl stop sexton
check "a stop ends the whole family ($took ms)" equal "$(family_count)" 0
check "... within TimeoutStopSec" between "$took" 0 90000
check "the cgroup is empty" equal "$(left "$group")" 0
check "... and the stop ended well" equal "$(property Result)" success

systemctl start sexton
job=$(sexton jobs --state running --json | json 'd["items"][0]["id"]')
check "(the family runs again)" eventually 20 all_there
sexton cancel "$job" >/dev/null
is_gone() { equal "$(family_count)" 0; }
check "cancelling the job ends all of the family that bears its mark" eventually 30 job_is "$job" cancelled
finish
