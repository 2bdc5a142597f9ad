"""A C++ compiler that remembers: `CXX` of a whole test session, for every process of it.

    python tests/cxx.py COMPILER … -- ARGUMENTS … SOURCE

compiles as COMPILER does, but what has been compiled with these arguments before is copied from
the folder that TESTS_COMPILED names. Of two that ask for the same at a time, one waits for the
other. Without that variable it is the compiler itself.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path


def key_of(compiler: list[str], arguments: list[str], target: int) -> str:
    """Return a hash of all that decides the output: words, the source, and what it may include."""
    words = [*compiler, *arguments[:target], *arguments[target + 1 :]]
    digest = hashlib.sha256("\0".join(words).encode())
    for file in (source := Path(arguments[-1]), *sorted(source.parent.glob("*.h"))):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()


def main(compiler: list[str], arguments: list[str]) -> int:
    folder = os.environ.get("TESTS_COMPILED")
    if folder is None or "-o" not in arguments:
        os.execvp(compiler[0], [*compiler, *arguments])
    target = arguments.index("-o") + 1
    kept = Path(folder) / key_of(compiler, arguments, target)
    with kept.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            code = subprocess.run([*compiler, *arguments]).returncode
            if code or not Path(arguments[target]).exists():
                return code
            shutil.copyfile(arguments[target], kept.with_suffix(".new"))
            kept.with_suffix(".new").replace(kept)
    shutil.copyfile(kept, arguments[target])
    return 0


if __name__ == "__main__":
    end = sys.argv.index("--")
    sys.exit(main(sys.argv[1:end], sys.argv[end + 1 :]))
