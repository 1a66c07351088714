"""What the client scripts share: the settings they are given, steps with times, and comparing files.

A script does what a user of its client would do, one `step` after the other. A step that fails is reported with
the command and what it said, and the script goes on; at its end it writes its results for the table.
"""

import configparser
import filecmp
import hashlib
import json
import os
import random
import shlex
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

STEP_SECONDS_MAX = 900


class Failure(Exception):
    """A step did not do what it should."""


class Settings:
    """Where the server is, who we are, and what there is to copy."""

    def __init__(self):
        self.endpoint = os.environ["CLIENT_ENDPOINT"]
        self.credentials = Path(os.environ["CLIENT_CREDENTIALS"])
        self.ca = Path(os.environ["CLIENT_CA"])
        self.work = Path(os.environ["CLIENT_WORK"])
        self.tree = Path(os.environ["CLIENT_TREE"])
        self.results = Path(os.environ["CLIENT_RESULTS"])
        self.big_len = int(os.environ["CLIENT_BIG_LEN"])
        self.region = "us-east-1"
        profile = configparser.RawConfigParser()
        profile.read(self.credentials)
        self.access_key = profile["default"]["aws_access_key_id"]
        self.secret_key = profile["default"]["aws_secret_access_key"]
        self.address = urlsplit(self.endpoint).netloc
        # A server that was not started for this run may remember the last one.
        self.unique = f"{os.getpid():x}-{int(time.time()):x}"

    def bucket(self, name):
        return f"{name}-{self.unique}"

    def is_reachable(self):
        parts = urlsplit(self.endpoint)
        try:
            socket.create_connection((parts.hostname, parts.port), timeout=5).close()
            return True
        except OSError:
            return False


class Script:
    """The steps of one client."""

    def __init__(self, settings, version):
        self.settings = settings
        self.version = version
        self.steps = []

    @contextmanager
    def step(self, name):
        start = time.monotonic()
        failure = None
        try:
            yield
        except Exception as error:  # the next step may still tell something
            failure = f"{type(error).__name__}: {error}" if not isinstance(error, Failure) else str(error)
        seconds = time.monotonic() - start
        print(f"  {'ok  ' if failure is None else 'FAIL'} {seconds:7.2f} s  {name}", file=sys.stderr)
        if failure is not None:
            print("       " + failure.rstrip().replace("\n", "\n       "), file=sys.stderr)
        self.steps.append({"step": name, "seconds": seconds, "failure": failure})
        if failure is not None and not self.settings.is_reachable():
            print("  the server is gone, so the remaining steps are skipped", file=sys.stderr)
            self.finish()

    def finish(self):
        self.settings.results.write_text(json.dumps({"version": self.version, "steps": self.steps}))
        sys.exit(1 if any(step["failure"] for step in self.steps) else 0)


def check(condition, what):
    """Fails the step unless the condition holds."""
    if not condition:
        raise Failure(what)


def run(*command, environment=None, stdin=None):
    """Runs a command that must succeed and returns its standard output."""
    words = [str(word) for word in command]
    result = subprocess.run(
        words, input=stdin, capture_output=True, timeout=STEP_SECONDS_MAX, env={**os.environ, **(environment or {})}
    )
    if result.returncode != 0:
        said = (result.stderr + result.stdout).decode(errors="replace")
        raise Failure(f"exit status {result.returncode} of: {shlex.join(words)}\n{said[-4000:]}")
    return result.stdout


def run_refused(*command, environment=None, expected=""):
    """Runs a command that must fail, and say `expected`."""
    words = [str(word) for word in command]
    result = subprocess.run(
        words, capture_output=True, timeout=STEP_SECONDS_MAX, env={**os.environ, **(environment or {})}
    )
    said = (result.stderr + result.stdout).decode(errors="replace")
    check(result.returncode != 0, f"succeeded, although it must not: {shlex.join(words)}")
    check(expected in said, f"does not say {expected!r}: {shlex.join(words)}\n{said[-4000:]}")


def make_file(path, length, seed=1):
    """Writes repeatable random bytes."""
    source = random.Random(seed)
    with open(path, "wb") as file:
        while length > 0:
            piece = source.randbytes(min(length, 1 << 20))
            file.write(piece)
            length -= len(piece)
    return path


def make_bytes(length, seed=1):
    return random.Random(seed).randbytes(length)


def md5(data):
    return hashlib.md5(data).hexdigest()


def check_same_file(one, other):
    check(filecmp.cmp(one, other, shallow=False), f"{one} and {other} differ")


def files_below(folder):
    """Paths of all files, relative to the folder."""
    return {str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file()}


def check_same_tree(one, other):
    """Compares the files of two folders byte by byte."""
    mine, theirs = files_below(one), files_below(other)
    check(mine == theirs, f"only in one of {one} and {other}: {sorted(mine ^ theirs)[:5]}")
    for name in mine:
        check_same_file(Path(one) / name, Path(other) / name)
