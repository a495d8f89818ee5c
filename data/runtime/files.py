"""Files and folders written whole or not at all, locks between processes, checks of file names, and CSV files."""

import csv
import errno
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, NamedTuple

from data.runtime.errors import InputError, raise_all

UMASK = threading.Lock()  # of all threads of the process
UNFINISHED = "unfinished-"
UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)  # the file system has no locks
MAX_ROWS = 1_000_000  # of one CSV file: as text in memory they take about 1 GB
SAFETENSORS_TEMPORARY = ".tmp??????"  # safetensors writes these beside our own temporary file


@contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` if the block ends without an error.

    A reader sees the old file or the new one, never a part; a failure leaves the old file as it was.
    The temporary name keeps the suffix, which some writers (numpy's savez) depend on.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}.{UNFINISHED}", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("r+b") as file:  # Windows flushes no file that is open for reading
            os.fsync(file.fileno())
        with UMASK:
            mask = os.umask(0)  # the umask can only be read by setting it
            os.umask(mask)
        temporary.chmod(0o666 & ~mask)  # mkstemp makes private files
        temporary.replace(path)
        with suppress(OSError):  # not every system can flush a folder, so that the rename outlives a power cut
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except OSError as error:
        if error.errno is not None and error.filename in (None, name):
            error.filename = str(path)  # the name that the user knows
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def write_folder_atomically(path: Path) -> Iterator[Path]:
    """Yield a new folder beside `path`; rename it to `path` if the block ends without an error, else remove it.

    Its files, maybe thousands, are not flushed: a killed process leaves nothing, a loss of power may.

    Raises:
        InputError: something other than an empty folder exists at `path`.
    """
    place = path.resolve()  # follows a link, and gives "." a name
    if place.exists() and not (place.is_dir() and not any(place.iterdir())):
        raise InputError(f"{path}: exists and is not an empty folder; name a new folder or remove it first")
    if os.path.ismount(place):  # pathlib's needs Python 3.12 on Windows
        raise InputError(f"{path}: a disk is mounted there, expected a folder in it; name one")
    place.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    try:
        folder = beside / place.name  # not mkdtemp's own folder, which is private
        folder.mkdir()
        yield folder
        folder.replace(place)
    except OSError as error:
        if error.errno is not None and str(error.filename or beside).startswith(str(beside)):
            error.filename = str(path)  # the name that the user knows
        raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`, whole or not at all."""
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def remove_unfinished(folder: Path, stem: str = "*") -> None:
    """Remove the temporary files of killed writers of `stem` in `folder`, which nobody may be writing now."""
    patterns = [f".{stem}.{UNFINISHED}*", *([SAFETENSORS_TEMPORARY] if stem == "*" else [])]
    for file in [path for pattern in patterns for path in folder.glob(pattern)]:
        file.unlink(missing_ok=True)


@contextmanager
def hold_lock(file: Path, what: str, waiting: str | None = None) -> Iterator[None]:
    """Hold `file` against other processes; remove it afterwards, and its folder if that is new and empty.

    It ends with its process, even a killed one. Children do not inherit it, so workers that outlive a killed parent
    block nobody. Where the file system has no locks, nobody is kept out.

    Args:
        file: the lock file; its folder is created if missing.
        what: the locked thing, for the message.
        waiting: message before waiting for another process, may be empty; None raises an `InputError` instead.
    """
    new_folder = not file.parent.exists()
    lock = _acquire(file, what, waiting)
    _held.add(lock)
    try:
        lock.truncate(0)
        lock.write(f" process {os.getpid()} on {socket.gethostname()}")  # Windows locks the first byte, for readers too
        lock.flush()
        yield
    finally:
        _held.discard(lock)
        if os.name == "nt":  # removes no open file; elsewhere, once closed, it may be another process's
            lock.close()
        with suppress(OSError):
            file.unlink()
        lock.close()
        if new_folder:
            with suppress(OSError):
                file.parent.rmdir()


_held: set[IO[str]] = set()


def _close_inherited() -> None:
    """Close a parent's locks in its child: a lock lasts as long as any process has it open."""
    for lock in _held:
        lock.close()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_inherited)


def _acquire(file: Path, what: str, waiting: str | None) -> IO[str]:
    from filelock import lock_descriptor  # here, so that --help is quick

    while True:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            lock = file.open("a+", encoding="utf-8", errors="replace")
        except FileNotFoundError:
            continue  # the previous holder has just removed the empty folder
        try:
            if not lock_descriptor(lock.fileno(), blocking=False):
                if waiting is None:
                    raise InputError(f"{what} is in use by {_owner(lock)}; wait for it to end, or name another")
                if waiting:
                    print(waiting, flush=True)
                lock_descriptor(lock.fileno())
        except OSError as error:
            if error.errno in UNSUPPORTED:
                return lock
            raise
        # The previous holder may have removed the file meanwhile: a lock on a removed file excludes nobody.
        with suppress(FileNotFoundError):
            if os.path.samestat(file.stat(), os.fstat(lock.fileno())):
                return lock
        lock.close()


def _owner(lock: IO[str]) -> str:
    """Read who holds a lock file, and close it."""
    with lock:
        lock.seek(1)
        return lock.read(200) or "another process"


def unsafe_reason(name: str) -> str:
    """Explain why a file name could lead out of its folder on any system, or names no file; empty if safe.

    >>> unsafe_reason("backbones/a.safetensors")
    ''
    >>> unsafe_reason("../a"), unsafe_reason("C:a")[:13]
    ("contains '..', expected a path that stays within the folder", 'names a drive')
    """
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    if "\0" in name:
        return "contains a NUL character, expected a file name"
    if "://" in name:
        return "is a URL, expected a path relative to the folder"
    if posix.root or windows.root:
        return "is an absolute path, expected one relative to the folder"
    if windows.drive:  # relative to that drive's current folder
        return "names a drive, expected a path relative to the folder"
    if ".." in (*posix.parts, *windows.parts):
        return "contains '..', expected a path that stays within the folder"
    return ""


def check_writable_names(where: str, names: Iterable[str]) -> None:
    """Raise an `InputError` naming all file names that a CSV file cannot hold.

    They are not UTF-8, or contain a carriage return, which Python's csv module writes unquoted.
    """
    unwritable = [name for name in names if "\r" in name or name != name.encode("utf-8", "replace").decode()]
    raise_all(f"{where}: names that are not UTF-8 or have a carriage return, expected others", map(repr, unwritable))


class CsvTable(NamedTuple):
    """The columns of a CSV file, its rows as (line in the file, value by column), and all its problems."""

    columns: list[str]
    rows: list[tuple[int, dict[str, str]]]
    problems: list[str]


def read_csv(path: Path, required: Sequence[str] | None = None, optional: Sequence[str] = ()) -> CsvTable:
    """Read a CSV file with or without a byte order mark; a bad one gives problems, each with file and line.

    Args:
        path: of the file; empty lines are skipped.
        required: None reads all columns that have names, which must differ, and strips values. Otherwise only
            these columns are read, with unchanged values; each must be there once. Names are always stripped.
        optional: read beside the required ones if the file has them.
    """
    rows: list[tuple[int, dict[str, str]]] = []
    problems: list[str] = []
    clean = str.strip if required is None else str
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            columns = [name for name in header if name]
            if required is not None:
                columns = [*required, *(name for name in dict.fromkeys(optional) if name in header)]
            if problem := _header_problem(header, columns, required is None):
                return CsvTable([], [], [f"{path}:1: {problem}"])
            places = [(name, header.index(name)) for name in columns]
            for cells in reader:
                line = reader.line_num
                if cells and len(rows) + len(problems) == MAX_ROWS:
                    expected = "expected at most that many; split the file"
                    return CsvTable([], [], [f"{path}:{line}: more rows than {MAX_ROWS}, {expected}"])
                if len(cells) == len(header):
                    rows.append((line, {name: clean(cells[place]) for name, place in places}))
                elif cells:
                    problems.append(f"{path}:{line}: {len(cells)} values, expected {len(header)}")
    except OSError as error:
        return CsvTable([], [], [f"{path}: cannot be read ({error.strerror})"])
    except (UnicodeDecodeError, csv.Error) as error:
        return CsvTable([], [], [f"{path}: not a CSV file in UTF-8 ({error})"])
    return CsvTable(columns, rows, problems)


def write_csv(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write rows, the first of column names, atomically; names that are not UTF-8 keep their bytes."""
    with write_atomically(path) as new, new.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def _header_problem(header: Sequence[str], columns: Sequence[str], every: bool) -> str:
    """Describe what is wrong with the line of column names; empty if nothing."""
    names = [name for name in header if name]
    if len(names) == 1 and ";" in names[0]:
        return "columns separated by semicolons, expected commas; save it again with commas"
    if every and not names:
        return "no line with column names, expected one"
    wrong = sorted({name for name in columns if header.count(name) != 1})
    if wrong and every:
        return f"columns {', '.join(wrong)} come twice, expected different names"
    return f"columns {', '.join(header) or '(none)'}; expected {', '.join(wrong)} once" if wrong else ""
