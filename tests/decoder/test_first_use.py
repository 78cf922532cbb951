"""Compiled code is kept on disk; where there is none yet, a program says why it waits."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


def asked(folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", "from tidegate.schemas.compiling import *; print(is_first_use())"],
        env={**os.environ, "NUMBA_CACHE_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_it_is_the_first_use_until_something_compiled_lies_on_disk(tmp_path: Path) -> None:
    assert asked(tmp_path) == "True"
    program = """
import numpy as np
from tidegate.schemas.otlp.wire import varint
varint(np.zeros(9, np.uint8), 0, 1)
"""
    subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)},
        check=True,
    )
    assert asked(tmp_path) == "False"


@pytest.mark.timeout(60)
def test_a_worker_says_that_it_compiles(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tidegate.streams.cli", "run", "--brokers", "127.0.0.1:1"]
    with subprocess.Popen(
        command,
        env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as worker:
        assert worker.stderr is not None
        try:
            assert any("compiling, once on this machine" in line for line in worker.stderr)
        finally:
            worker.kill()
