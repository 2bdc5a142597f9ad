"""The zip inside a checkpoint file, checked before torch opens it: bounded, and of plain values.

A right hash proves a file whole, not harmless: whoever makes a file can compute its hash.
"""

from __future__ import annotations

import io
import pickletools
from typing import Any
from zipfile import ZIP_STORED, ZipFile, ZipInfo

MAX_ENTRIES = 20_000
_MAX_PICKLE_BYTES = 4 * 2**20  # what 10,000 epochs of history need, in round numbers

_STORAGES = (
    "Bool", "Byte", "Char", "Short", "Int", "Long", "Half", "BFloat16", "Float", "Double",
)  # fmt: skip
_GLOBALS = {
    "torch._utils _rebuild_tensor_v2",
    "collections OrderedDict",
    *(f"torch {kind}Storage" for kind in _STORAGES),
}
_OPCODES = {
    "PROTO", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1",
    "BINFLOAT", "BINUNICODE", "EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "TUPLE", "TUPLE1",
    "TUPLE2", "TUPLE3", "APPEND", "APPENDS", "SETITEM", "SETITEMS", "BINPUT", "LONG_BINPUT",
    "BINGET", "LONG_BINGET", "GLOBAL", "REDUCE", "BINPERSID",
}  # fmt: skip


def repack(data: bytes) -> io.BytesIO:
    """Return the entries of an uncompressed zip in a new zip: torch reads no foreign directory.

    Names, sizes and checksums are read by one parser, so that the entries which were checked are
    those which are loaded.

    Raises:
        ValueError: compressed, larger inside than outside, of too many entries, or with a pickle
            of more than plain values.
        Exception: whatever `zipfile` raises where the zip is broken.
    """
    if data.count(b"PK\x01\x02") > MAX_ENTRIES:
        raise ValueError(f"it has more than {MAX_ENTRIES} entries")
    clean = io.BytesIO()
    with ZipFile(io.BytesIO(data)) as source, ZipFile(clean, "w") as target:
        entries = source.infolist()
        if any(entry.compress_type != ZIP_STORED for entry in entries):
            raise ValueError("it is compressed")
        if sum(entry.file_size for entry in entries) > len(data):
            raise ValueError("it unpacks to more than its size")
        for entry in entries:
            content = source.read(entry)
            if entry.filename.endswith(".pkl"):
                _check_pickle(content)
            target.writestr(ZipInfo(entry.filename), content)  # the clock may be out of zip's range
    clean.seek(0)
    return clean


def _check_pickle(data: bytes) -> None:
    """Walk the instructions without running any; every name must be one that we write.

    A tuple that is referred to twice is refused too: nested, its hash takes for ever.
    """
    if len(data) > _MAX_PICKLE_BYTES:
        raise ValueError(f"its pickle is larger than {_MAX_PICKLE_BYTES} bytes")
    made, made_by = "", dict[Any, str]()
    argument: Any
    for opcode, argument, _ in pickletools.genops(data):
        name = opcode.name
        if name not in _OPCODES or (name == "LONG1" and abs(argument) >= 2**63):
            raise ValueError(f"its pickle uses {name}")
        if name == "GLOBAL" and argument not in _GLOBALS:
            raise ValueError(f"its pickle names {argument}")
        if name.endswith("BINPUT"):
            made_by[argument] = made
        elif name.endswith("BINGET") and made_by.get(argument, "").startswith("TUPLE"):
            raise ValueError("its pickle shares a tuple")
        else:
            made = name
