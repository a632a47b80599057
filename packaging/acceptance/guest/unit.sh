#!/bin/bash
# The unit as it is shipped: installed as documented, nothing to say against it, and all kinds of jobs work within its walls.
. /rig/in/sexton/packaging/acceptance/guest/prelude.sh

# No memory of an earlier machine: somebody who may use the service, and somebody who may not.
useradd --create-home member
useradd --create-home stranger
echo "a letter" >/home/member/letter

check "the commands of the documentation install and start it" install_sexton
usermod -aG sexton member

verify() { systemd-analyze verify sexton.service 2>&1; }
check "systemd-analyze verify is content" verify
check "systemd-analyze verify has nothing to say" equal "$(verify)" ""
security() { systemd-analyze security --no-pager "$@" sexton.service; }
say "$(security | tail -n 1)"
check "its exposure is at most 1.5" security --threshold=15

# --- user, directories, modes ---

check "the user is a system user" test "$(id -u sexton)" -lt 1000
check "nobody can log in as that user" equal "$(getent passwd sexton | cut -d: -f7)" /usr/sbin/nologin
access() { stat -c '%U:%G %a' "$1"; }
while read -r path expected; do
    check "$path is $expected" equal "$(access "$path")" "$expected"
done <<'PLACES'
/etc/sexton root:root 755
/etc/sexton/schedules root:root 755
/etc/sexton/kinds root:root 755
/etc/sexton/credentials root:root 700
/var/lib/sexton sexton:sexton 750
/var/log/sexton sexton:sexton 750
/run/sexton sexton:sexton 750
/run/sexton/sexton.sock sexton:sexton 660
PLACES
loose() { find /var/lib/sexton /var/log/sexton /run/sexton -perm /o=rwx ! -type l; }
check "others can read nothing that it wrote" equal "$(loose)" ""

# --- the process ---

of_daemon() { grep -E "^$1:" "/proc/$(main_pid)/status" | cut -f2; }
check "it runs as the user sexton" equal "$(stat -c %U "/proc/$(main_pid)")" sexton
for set in CapPrm CapEff CapBnd CapAmb; do
    check "it has no capability in $set" equal "$(of_daemon $set)" 0000000000000000
done
check "it cannot gain privileges" equal "$(of_daemon NoNewPrivs)" 1
check "its system calls are filtered" equal "$(of_daemon Seccomp)" 2

# --- who may speak to it ---

# Not by `runuser`, which opens a session and waits for a login manager.
as() { setpriv --reuid "$1" --regid "$1" --init-groups "${@:2}"; }
check "root may use the socket" sexton status
check "a member of the group may use the socket" as member sexton status
check "a stranger may not" not as stranger sexton status
check "a stranger cannot read the data" not as stranger ls /var/lib/sexton

# --- work of every kind, within the walls ---

shell() { sexton submit command --wait --json --max-attempts 1 --params "$(python3 -c 'import json, sys; print(json.dumps({"shell": sys.argv[1]}))' "$1")"; }
kind() { sexton submit "$1" --wait --json --max-attempts 1 --params "$2"; }
check "a command runs" shell 'echo "it rang"'
check "a command may write below the data directory" shell 'echo mark >/var/lib/sexton/tmp/mark'
check "a command cannot write to the system" not shell 'touch /usr/mark'
check "a command cannot write to the settings" not shell 'touch /etc/sexton/schedules/mark.toml'
check "a command sees no home directory" not shell 'cat /home/member/letter'
check "a command has a /tmp of its own" shell 'touch /tmp/private && [ ! -e /tmp/systemd-private-none ]'
check "... which nobody else sees" test ! -e /tmp/private
check "a command cannot see the daemon's environment" not shell 'cat /proc/$PPID/environ | grep -q .'
check "a job may be nice and limited" kind command '{"argv":["true"],"nice":10,"limits":{"open_files":64}}'

# Files count as old when all their time stamps are, so nothing is old here yet.
check "cleanup works" kind cleanup '{"roots":["/var/lib/sexton/tmp"],"older_than":"1m","delete_empty_dirs":true}'
mkdir -p /srv/kb && printf '# Title\n\n[link](other.md)\n' >/srv/kb/index.md && echo '# Other' >/srv/kb/other.md
check "kb_validation reads" kind kb_validation '{"root":"/srv/kb","check":[{"match":"**/*.md","links":{"local":true}}]}'
check "stats_report writes" kind stats_report '{"period":"today","formats":["html","json"]}'
check "data_sync copies" kind data_sync '{"from":"/srv/kb","to":"/var/lib/sexton/tmp/kb","mode":"mirror"}'
check "... and the copy is whole" cmp /srv/kb/index.md /var/lib/sexton/tmp/kb/index.md
(cd /srv/kb && exec python3 -m http.server --bind 127.0.0.1 8099 >/dev/null 2>&1) &
check "the server of this test answers" eventually 20 python3 -c 'import urllib.request as u; u.urlopen("http://127.0.0.1:8099/index.md")'
check "http fetches" kind http '{"url":"http://127.0.0.1:8099/index.md","allow_private":true}'
kill %1

mkdir -p /srv/backup && chown sexton: /srv/backup
check "elsewhere nothing can be written" not shell 'touch /srv/backup/mark'
drop_in paths <<<'ReadWritePaths=/srv/backup'
systemctl restart sexton
check "a drop-in opens a place for writing" shell 'touch /srv/backup/mark'

# --- secrets ---

canary=canary-$RANDOM-$RANDOM-$RANDOM
(umask 077 && printf %s "$canary" >/etc/sexton/credentials/token)
drop_in credential <<<'LoadCredential=token:/etc/sexton/credentials/token'
schedule secret <<'SCHEDULE'
[command]
argv = ["sh", "-c", "printf %s \"$TOKEN\" | sha256sum"]
env = { TOKEN = "credential:token" }
SCHEDULE
check "with a credential it starts" systemctl restart sexton
check "a job gets a secret that only root can read" sexton run secret --wait
digest=$(printf %s "$canary" | sha256sum | cut -d' ' -f1)
job=$(sexton jobs --schedule secret --json | json 'd["items"][0]["id"]')
check "... the right one" matches "$(sexton logs "$job")" "$digest"
spilt() { { journal --output export; cat /var/log/sexton/*; find /var/lib/sexton -type f -exec cat {} +; sexton job "$job" --json; } | grep -ac -- "$canary"; }
check "the secret is nowhere else" equal "$(spilt)" 0

# --- broken settings and files at the start ---

printf '[command]\nargv = ["true"]\n\n  argvv = 3\n' | schedule broken
before=$(up)
check "with a broken schedule it starts" systemctl restart sexton
check "the journal says where the file is broken" eventually 20 said_since "$before" 'broken\.toml:4:3'
check "systemctl status says it too" status_says 'broken\.toml:4:3'
check "the other schedules are there" sexton show secret
rm /etc/sexton/schedules/broken.toml

echo 'workers = "many"' >>/etc/sexton/sexton.toml
check "with broken settings it does not start" not systemctl restart sexton
check "its exit code says why" equal "$(property ExecMainStatus)" 78
sleep 6
check "it is not tried again" equal "$(property ActiveState) $(restarts)" "failed 0"
check "the journal names the key" said 'workers'
sed -i '$d' /etc/sexton/sexton.toml
check "with the settings corrected it starts" systemctl restart sexton

finish
