"""Room 2: which sessions of this machine run: each holds a lock, which the kernel releases however its process ends."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout

from pytest_boobench.errors import HostError, explain_os_error, means_no_locks


def hold(path: Path) -> FileLock:
    """Take a session's own lock. Nobody else ever has a file of this name. Raises HostError if there can be no lock."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except OSError as error:
        raise explain_no_lock(path, error) from error
    return lock


def give_back(lock: FileLock) -> None:
    """Release a lock of `hold` and remove its file. Idempotent."""
    lock.release()
    Path(lock.lock_file).unlink(missing_ok=True)


def is_held(path: Path) -> bool:
    """Whether the session of this lock runs. Removes the file of an ended one."""
    try:
        with FileLock(path, timeout=0):
            pass
    except Timeout:
        return True
    path.unlink(missing_ok=True)
    return False


def explain_no_lock(path: Path, error: OSError) -> HostError:
    """Return the error to raise where a lock of the machine or of a session cannot be had."""
    what = "its file system has no locks" if means_no_locks(error) else "cannot be used"
    return HostError(
        f"{path.parent}: {what} ({explain_os_error(error)}), and without a lock two sessions could measure at once; "
        "let XDG_CACHE_HOME name a folder on a local disk that this user may write to"
    )
