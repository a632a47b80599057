"""How the examples talk to Sexton. `clone_repository` does the same in a shell, with one `printf`."""

import contextlib
import json
import os
import signal
import sys

DRY_RUN = os.environ.get("SEXTON_DRY_RUN") == "1"
# A stop unwinds the program instead of cutting it off, so that what is temporary goes away.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
# Whatever the language of the machine is, and whatever bytes the names of files have.
for stream in (sys.stdout, sys.stderr):
    stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def tell(**line):
    """Writes one line of the protocol. A program that is run by hand has nobody to tell, and the line is dropped."""
    with contextlib.suppress(KeyError, ValueError, OSError):
        # Names of files may be no UTF-8; a `?` in a message is better than a line that nobody can read.
        text = json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n"
        os.write(int(os.environ["SEXTON_PROTOCOL_FD"]), text.encode("utf-8", "replace"))


def read_items(params):
    """The items of a batch in one run, those that are not completed; None of a job that is no batch. Many come in a file."""
    if "SEXTON_ITEMS_FILE" in os.environ:
        with open(os.environ["SEXTON_ITEMS_FILE"], "rb") as file:
            return json.load(file)
    return params.get("items")


def checkpoint():
    """What the attempt before this one left with `tell(checkpoint=...)`, or None."""
    try:
        return json.loads(os.environ["SEXTON_CHECKPOINT"])
    except (KeyError, ValueError):
        return None


def refuse(reason, code=65):
    """Ends the job for good: trying again would end the same way. The kind files list the codes in `final_codes`."""
    tell(final=reason)
    print(reason, file=sys.stderr)
    sys.exit(code)


def try_later(why, **line):
    """Ends this attempt. `line` may say when another makes sense: retry_after=60, or snooze=60 not to be charged."""
    if line:
        tell(**line)
    print(why, file=sys.stderr)
    sys.exit(75)


def read_params(**types):
    """The params on standard input. Sexton has held them against the schema; by hand nobody has."""
    try:
        params = json.load(sys.stdin.buffer)
    except ValueError as error:
        refuse(f"standard input must be one JSON object: {error}", 64)
    if not isinstance(params, dict):
        refuse("standard input must be a JSON object", 64)
    for name, kind in types.items():
        if not isinstance(params.get(name), kind):
            refuse(f"standard input must be a JSON object in which `{name}` is a {kind.__name__}", 64)
    return params
