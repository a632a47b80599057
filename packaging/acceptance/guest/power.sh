#!/bin/bash
# Power cuts under load: power.sh CUTS [forgetful]. What was acknowledged to the host is there after each, and the ledger has every
# second. With `forgetful` the program's syncs do nothing, and then a loss has to be found: otherwise this test could not fail.
. /rig/in/sexton/packaging/acceptance/guest/prelude.sh
CUTS=$1
forgetful=${2:-}

if [[ $RIG_BOOT -eq 1 ]]; then
    install_sexton >/dev/null 2>&1
    # The journal's lines and the log's are not what is proven here, and cost the one core of this machine.
    echo 'SEXTON_LOG__LEVEL=warn' >/etc/default/sexton
    schedule tick <<'SCHEDULE'
[when]
every = "1s"
catch_up = "all"

[command]
argv = ["true"]
SCHEDULE
    if [[ -n $forgetful ]]; then
        install -m 644 /rig/in/forgetful.so /usr/lib/forgetful.so
        drop_in forgetful <<<'Environment=LD_PRELOAD=/usr/lib/forgetful.so'
    fi
    check "(it is installed)" systemctl restart sexton
    sync
elif [[ -n $forgetful ]]; then
    if ! eventually 60 is_serving >/dev/null || ! lost=$(nothing-lost "$RIG_NOTE"); then
        say "after power cut $((RIG_BOOT - 1)): ${lost:-it does not start any more}" | head -n 3
        check "without syncs this test finds a loss" true
        finish
    fi
    [[ $RIG_BOOT -le $CUTS ]] || check "without syncs this test finds a loss" false
else
    check "after power cut $((RIG_BOOT - 1)) it runs" eventually 60 is_serving
    check "the database is sound" sexton db check
    check "every acknowledged job is there, and once" nothing-lost "$RIG_NOTE"
    say "$(nothing-lost "$RIG_NOTE")"
    check "every second has its row" eventually 20 ledger-of-seconds tick
    check "the audit log is intact" sexton audit verify
fi

if [[ $RIG_BOOT -le $CUTS ]]; then
    trap - EXIT
    exec submit-load host $((30 + RANDOM % 50))
fi

[[ -z $forgetful ]] || finish
all_done() { nothing-lost "$RIG_NOTE" --ended; }
check "in the end every acknowledged job is done, and only the cuts interrupted any" eventually 120 all_done
say "$(all_done)"
say "$(ledger-of-seconds tick)"
finish
