"""One process at a time: a lock that ends with the process that holds it, however that ends."""

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from data.runtime.errors import InputError

TAKEN = (errno.EACCES, errno.EAGAIN)
UNKNOWN = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)  # file systems that know no locks


@contextmanager
def hold_lock(file: Path, what: str, waiting: str | None = None) -> Iterator[None]:
    """Hold `file` against other processes; made for this and removed after, as is a folder new and empty.

    The lock is POSIX's (`fcntl.lockf`): a child does not inherit it, so that workers which outlive a killed
    parent by a moment hold nobody up. It does not keep threads of one process apart.

    Args:
        file: the lock file; its folder is made where it is missing.
        what: names what is hold_lock, for the message.
        waiting: printed once before another process is waited for; None refuses instead.

    Raises:
        InputError: another process holds it, and `waiting` is None.
    """
    made = not file.parent.exists()
    lock = _acquire(file, what, waiting)
    try:
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()}")
        lock.flush()
        yield
    finally:
        file.unlink(missing_ok=True)
        lock.close()
        if made:
            with suppress(OSError):
                file.parent.rmdir()


def _acquire(file: Path, what: str, waiting: str | None) -> IO[str]:
    while True:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            lock = file.open("a+", encoding="utf-8", errors="replace")
        except FileNotFoundError:
            continue  # the one before removed the empty folder just now
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in UNKNOWN:
                return lock
            if error.errno not in TAKEN:
                raise
            if waiting is None:
                lock.seek(0)
                owner = lock.read(200) or "another process"
                lock.close()
                raise InputError(f"{what} is in use by {owner}; wait for it to end, or name another") from None
            print(waiting, flush=True)
            fcntl.lockf(lock, fcntl.LOCK_EX)
        # The one before may have removed the file while this one waited: then this lock would lock nothing.
        with suppress(FileNotFoundError):
            if os.path.samestat(file.stat(), os.fstat(lock.fileno())):
                return lock
        lock.close()
