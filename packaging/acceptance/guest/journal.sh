#!/bin/bash
# The journal: a priority for each line, fields to search by, one entry for one event whatever is in it.
. /rig/in/sexton/packaging/acceptance/guest/prelude.sh

install_sexton >/dev/null 2>&1

# entries OPTION... : the daemon's own entries, one JSON object a line.
entries() { journalctl --sync; journal --output json SYSLOG_IDENTIFIER=sexton "$@"; }
with_message() { entries | grep -F -- "$1" | head -n 1; }
has_message() { [[ -n $(with_message "$1") ]]; }

check "the start is in the journal" eventually 10 has_message serving
entry=$(with_message '"serving"')
check "an information has priority 6" equal "$(json 'd["PRIORITY"]' <<<"$entry")" 6
check "it belongs to the unit" equal "$(json 'd["_SYSTEMD_UNIT"]' <<<"$entry")" sexton.service
check "it carries its fields" equal "$(json 'd["SEXTON_DATABASE"]' <<<"$entry")" sqlite:/var/lib/sexton/sexton.db
check "it carries its place in the program" matches "$entry" '"TARGET":"sexton::'

sexton submit command --wait --params '{"argv":["false"]}' --max-attempts 1 >/dev/null
job=$(sexton jobs --json | json 'd["items"][0]["id"]')
of_job() { journalctl --sync; journal --output cat "SEXTON_JOB_ID=$job"; }
is_found() { matches "$(of_job)" 'attempt finished: failure'; }
check "what happened to a job is found by its number" eventually 10 is_found

printf '[comand]\n' | schedule broken
check "an error has priority 3" eventually 20 said 'broken\.toml' --priority err..err
rm /etc/sexton/schedules/broken.toml
# A file that others may write to is odd and no error.
echo '# nothing but a comment' >/etc/sexton/schedules/odd.toml
printf '[when]\ncron = "0 0 30 2 *"\n\n[command]\nargv = ["true"]\n' | schedule never
systemctl reload sexton
check "a warning has priority 4" eventually 20 said 'never\.toml' --priority warning..warning
rm /etc/sexton/schedules/*.toml
check "no line of it is above an error" equal "$(entries --priority emerg..crit)" ""

# --- one event is one entry ---

evil=$'ring\x1b]0;owned\x07\nAug 1 00:00:00 rig sexton[1]: forged'
sexton submit command --wait --label "x=$evil" --params "$(python3 -c 'import json, sys; print(json.dumps({"argv": ["sh", "-c", "echo \"$0\"; exit 3", sys.argv[1]]}))' "$evil")" --max-attempts 1 >/dev/null 2>&1
sexton run "$evil" >/dev/null 2>&1
check "what users write cannot forge a line" equal "$(entries --output cat | grep -c '^Aug 1')" 0
check "... nor send escape sequences to a screen" equal "$(journal --output cat | grep -c $'\x1b')" 0

# --- levels and places ---

check "the diagnostics file has the same lines, as JSON" python3 - <<'PYTHON'
import glob, json
lines = [json.loads(line) for name in glob.glob("/var/log/sexton/sexton.log*") for line in open(name)]
assert any(line["message"] == "serving" and line["level"] == "info" for line in lines), lines[:3]
PYTHON
echo 'SEXTON_LOG__LEVEL=warn' >/etc/default/sexton
before=$(up)
systemctl restart sexton
check "with level warn, informations are left out" not eventually 2 said_since "$before" ': serving$'
echo 'SEXTON_LOG__FORMAT=text' >/etc/default/sexton
before=$(up)
systemctl restart sexton
check "with format text the journal gets lines of text" eventually 10 said_since "$before" 'INFO .*serving'
rm /etc/default/sexton

finish
