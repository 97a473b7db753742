"""Disks that a server may run into: a small one (a file system in memory of a few megabytes, that a test may fill and make
room on again), and a frail one (that turns read-only).

They are mounted in a mount namespace of this process's own, so that they are gone with it and its children, however they end;
nobody else sees them. Mounting takes root, and a container may forbid it even then.
"""
import contextlib
import ctypes
import os
import pathlib
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


class FrailDisk:
    """A directory of the server's user on a file system that turns read-only when it finds an error, also for files that are
    open, and that can be made to find one: ext4, in a file."""

    def __init__(self, path, megabytes):
        go_apart()
        self.path, self.image = path, path.with_suffix(".image")
        user = server_user()
        with open(self.image, "wb") as file:
            file.truncate(megabytes << 20)
        self.run("mkfs.ext4", "-q", "-m", "0", "-E", f"root_owner={user['user']}:{user['group']}", self.image)
        run_as_server("mkdir", path)
        self.mount()

    @staticmethod
    def run(*words):
        try:
            subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        except FileNotFoundError:
            pytest.skip(f"a frail disk takes {words[0]}")

    def mount(self):
        mount("-o", "loop,errors=remount-ro", self.image, self.path)
        (device,) = [words[0] for words in map(str.split, open("/proc/self/mounts", encoding="utf-8")) if words[1] == str(self.path)]
        self.trigger = pathlib.Path("/sys/fs/ext4") / pathlib.Path(device).name / "trigger_fs_error"
        if not os.access(self.trigger, os.W_OK):
            pytest.skip("a frail disk takes a kernel that lets an ext4 file system find an error (trigger_fs_error)")

    def turn_read_only(self):
        self.trigger.write_text("1")

    def repair(self):
        """As an operator would. Nobody may use it meanwhile. What was not synced is lost."""
        self.run("umount", self.path)
        subprocess.run(["e2fsck", "-fy", self.image], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        self.mount()

    def close(self):
        subprocess.run(["umount", "--lazy", self.path], check=False)
        self.image.unlink()


def limit_files(cluster, megabytes):
    """No process of the server may write a file beyond that many megabytes (None: any size). The kernel has no code of its own
    for it that PostgreSQL would know, as it has none for a quota. What is longer already cannot be written at its end."""
    limit = "unlimited" if megabytes is None else megabytes << 20
    postmaster = cluster.process.pid
    children = pathlib.Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    for pid in (postmaster, *map(int, children)):
        with contextlib.suppress(subprocess.CalledProcessError):  # ended since
            run_as_server("prlimit", "--pid", pid, f"--fsize={limit}:")
