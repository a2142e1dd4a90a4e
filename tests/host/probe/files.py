"""Attempts on files and folders. None of them leaves a trace where it succeeds."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from .refused import Refused


def read(path: str) -> None:
    with open(path, "rb") as file:
        if not file.read(1):
            raise Refused("it is empty")


def list_folder(path: str) -> None:
    if not os.listdir(path):
        raise Refused("it is empty")


def open_to_write(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK))


def create_in(folder: str) -> None:
    descriptor, name = tempfile.mkstemp(dir=folder)
    os.close(descriptor)
    os.unlink(name)


def replace(path: str) -> None:
    """Put another file in its place, and the old one back."""
    aside = f"{path}.aside"
    os.rename(path, aside)
    os.rename(aside, path)


def link_to(path: str, folder: str) -> None:
    """Find it in a folder, under another name."""
    other = os.path.join(folder, "another-name")
    os.link(path, other)
    os.unlink(other)


def see(path: str) -> None:
    """Whether it is there at all."""
    os.stat(path)


def make_device(folder: str) -> None:
    """The machine's memory, as a file of one's own."""
    name = os.path.join(folder, "device")
    os.mknod(name, 0o600 | 0o020000, os.makedev(1, 1))
    os.unlink(name)


def make_setuid(folder: str) -> None:
    name = os.path.join(folder, "setuid")
    Path(name).write_text("#!/bin/sh\n")
    try:
        os.chmod(name, 0o4755)
    finally:
        os.unlink(name)


def gain_by(program: str, *arguments: str) -> None:
    """Run a program that root has marked for that, and see whether it is somebody else then."""
    said = subprocess.run([program, *arguments], capture_output=True, text=True)
    before, after = (os.geteuid(), os.getegid()), tuple(map(int, said.stdout.split()[:2]))
    if after == before:
        raise Refused("nothing gained")


def gain_capabilities_by(program: str) -> None:
    said = subprocess.run([program, "/proc/self/status"], capture_output=True, text=True)
    found = said.stdout.partition("CapEff:")[2].split()
    if not found or int(found[0], 16) == 0:
        raise Refused("nothing gained")


def find_word(word: str, *folders: str) -> None:
    """Look for a word in all files that can be read."""
    argv = ["grep", "--recursive", "--files-with-matches", "--binary-files=text", "--devices=skip", "--fixed-strings", "-e", word, *folders]
    found = subprocess.run(argv, capture_output=True, text=True).stdout.split()
    if not found:
        raise Refused("not found")


def list_host(*names: str) -> None:
    """Whether any of these shows in a listing of the root folder."""
    if not set(names) & set(os.listdir("/")):
        raise Refused("not there")


def see_in(folder: str, name: str) -> None:
    if name not in os.listdir(folder):
        raise Refused("not there")
