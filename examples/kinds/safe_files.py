"""Paths that stay inside a folder, files that appear whole, and one job at a time."""

import contextlib
import fcntl
import os
import pathlib
import uuid

from sexton_protocol import refuse, try_later


def folder(variable, default):
    """The folder that an environment variable names. The kind file sets it, so params have no say in it."""
    return pathlib.Path(os.environ.get(variable) or default).resolve()


def locate(root, name):
    """The path of `name` in `root`, or None. Params come from outside: `..`, absolute paths and symlinks must not lead out."""
    with contextlib.suppress(OSError, ValueError, RuntimeError, TypeError):
        root = root.resolve()
        path = (root / name).resolve()
        if root in path.parents:
            return path
    return None


def inside(root, name):
    """The path of `name` in `root`. A job that names anything else has ended."""
    return locate(root, name) or refuse(f"{name!r} is not a path inside {root}: name something in that folder", 77)


def source_folder(root, name):
    """A folder in `root` that must be there."""
    path = inside(root, name)
    return path if path.is_dir() else refuse(f"there is no folder {path}: name one of those in {root}", 66)


def files_in(root):
    """Every plain file below `root`, in a stable order. Links and hidden files are none of our business."""
    for path, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            file = pathlib.Path(path, name)
            if not name.startswith(".") and file.is_file() and not file.is_symlink():
                yield file


def write_whole(path, data):
    """Writes a file so that readers see the old one or the new one, and never a half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(data if isinstance(data, bytes) else data.encode("utf-8", "replace"))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def hold(path, mode=fcntl.LOCK_EX):
    """Holds a lock file until the program ends. If another job has it, this one comes back later and is not charged."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)  # never closed: the lock goes with the process
    try:
        fcntl.flock(file, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        reason = f"another job holds {path}"
        try_later(f"{reason}; try again when it has ended", snooze=30, reason=reason)
