"""A socket in the file system to listen on: made, taken over from a dead server, and removed.

It does not know what is served there.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path

from cloud_server.links.connections import ListeningSocket
from shared_protocol.errors import ConfigError

_PROBE_S = 2.0
_NOT_OTHERS = 0o117
"""What nobody gets: to execute, and anything at all for others. The group is left to the umask,
so that with the usual 022 only the user of the server may connect, and with 007 the group, too."""


class UnixSocket:
    """A listening socket and the file that it is reached by.

    Args:
        path: of the file; what a dead server has left there is replaced.
        backlog: connections that may wait to be accepted, at least.

    Raises:
        ConfigError: a server listens there, something else lies there, or it cannot be made.
    """

    def __init__(self, path: Path, backlog: int) -> None:
        self.path = path
        _make_way(path)
        self.listener = ListeningSocket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            _bind(self.listener, path)
            self.listener.listen(backlog)
            self._made = _identity(path)
        except OSError as error:
            self.listener.close()
            raise _unusable(path, error) from error

    @property
    def url(self) -> str:
        """What `edge-client --server` calls it."""
        return f"unix:{self.path.absolute()}"

    def remove(self) -> None:
        """Close it and remove the file, unless another server has put its own there."""
        self.listener.close()
        with suppress(OSError):
            if _identity(self.path) == self._made:
                self.path.unlink()


def _make_way(path: Path) -> None:
    """Remove what a dead server has left; refuse whatever else is there."""
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unusable(path, error) from error
    if not stat.S_ISSOCK(kind):
        raise ConfigError(f"{path} is there and is no socket", "name another file with --unix")
    if _answers(path):
        raise ConfigError(
            f"another server listens on {path}", "stop it, or name another file with --unix"
        )
    try:
        path.unlink()
    except OSError as error:
        raise _unusable(path, error) from error


def _answers(path: Path) -> bool:
    """Whether somebody listens there, or may: only a refused connection proves a socket dead."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_S)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True
    return True


def _bind(listener: socket.socket, path: Path) -> None:
    """Bind it, with permissions that were never wider."""
    umask = os.umask(0o177)
    try:
        os.umask(umask | _NOT_OTHERS)
        listener.bind(str(path))
    finally:
        os.umask(umask)


def _identity(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino


def _unusable(path: Path, error: OSError) -> ConfigError:
    reason, remedy = error.strerror or str(error), "name another file with --unix"
    if "too long" in str(error):
        reason = f"the path has {len(os.fsencode(path))} bytes, and about 100 are the limit"
        remedy = "name a file nearer to the root, such as /run/unimic.sock"
    elif error.errno == errno.ENOENT:
        reason, remedy = f"there is no folder {path.parent}", "make it first"
    elif error.errno == errno.EACCES:
        remedy = f"see that you may write into {path.parent}"
    return ConfigError(f"cannot listen on {path}: {reason}", remedy)
