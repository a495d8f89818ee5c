"""File locks between processes; a lock ends with the process that holds it, even a killed one."""

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from data.runtime.errors import InputError

UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)  # the file system has no locks


@contextmanager
def hold_lock(file: Path, what: str, waiting: str | None = None) -> Iterator[None]:
    """Hold `file` against other processes; remove it afterwards, and its folder if that is new and empty.

    The lock is POSIX's (`fcntl.lockf`): children do not inherit it, so workers that outlive a killed parent
    block nobody. It does not separate threads of one process.

    Args:
        file: the lock file; its folder is created if missing.
        what: the locked thing, for the message.
        waiting: message before waiting for another process; None raises an `InputError` instead.
    """
    new_folder = not file.parent.exists()
    lock = _acquire(file, what, waiting)
    try:
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()}")
        lock.flush()
        yield
    finally:
        file.unlink(missing_ok=True)
        lock.close()
        if new_folder:
            with suppress(OSError):
                file.parent.rmdir()


def _acquire(file: Path, what: str, waiting: str | None) -> IO[str]:
    while True:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            lock = file.open("a+", encoding="utf-8", errors="replace")
        except FileNotFoundError:
            continue  # the previous holder has just removed the empty folder
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            if waiting is None:
                lock.seek(0)
                owner = lock.read(200) or "another process"
                lock.close()
                raise InputError(f"{what} is in use by {owner}; wait for it to end, or name another") from None
            print(waiting, flush=True)
            fcntl.lockf(lock, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno in UNSUPPORTED:
                return lock
            raise
        # The previous holder may have removed the file meanwhile: a lock on a removed file excludes nobody.
        with suppress(FileNotFoundError):
            if os.path.samestat(file.stat(), os.fstat(lock.fileno())):
                return lock
        lock.close()
