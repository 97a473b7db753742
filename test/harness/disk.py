"""A small disk: a file system in memory of a few megabytes, that a test may fill and make room on again.

It is mounted in a mount namespace of this process's own, so that it is gone with it and its children, however they end; nobody
else sees it. Mounting takes root, and a container may forbid it even then.
"""
import ctypes
import os
import subprocess

import pytest

from .cluster import run_as_server, server_user

CLONE_NEWNS = 0x20000
apart = []  # not empty: this process has a namespace of its own


def go_apart():
    """Servers that run already stay where they are; what is started from here on (by this thread) sees the mounts."""
    if apart:
        return
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk takes root")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) != 0:
        pytest.skip(f"a mount namespace of our own is refused: {os.strerror(ctypes.get_errno())}")
    mount("--make-rprivate", "/")
    apart.append(True)


def mount(*words):
    done = subprocess.run(["mount", *words], stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted: {done.stderr.strip()}")


class SmallDisk:
    """A directory of the server's user with `megabytes` of room."""

    def __init__(self, path, megabytes):
        go_apart()
        self.path = path
        run_as_server("mkdir", path)
        user = server_user()
        mount("-t", "tmpfs", "-o", f"size={megabytes}m,mode=700,uid={user['user']},gid={user['group']}", "tmpfs", path)

    @property
    def ballast(self):
        return self.path / "ballast"

    def fill(self, spare=0):
        """Takes what room there is, but for `spare` KiB."""
        room = os.statvfs(self.path)
        left = room.f_bavail * room.f_frsize - spare * 1024
        with open(self.ballast, "ab") as file:
            file.write(b"\0" * max(left, 0))

    def make_room(self):
        self.ballast.unlink(missing_ok=True)

    def close(self):
        subprocess.run(["umount", "--lazy", self.path], check=False)
