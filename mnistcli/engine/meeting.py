"""How the ranks of a launch exchange messages: torch's store, by keys."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from datetime import timedelta

from torch.distributed import (  # type: ignore[attr-defined]
    DistError,
    DistNetworkError,
    HashStore,
    PrefixStore,
    Store,
)
from torch.distributed.rendezvous import rendezvous

from mnistcli.engine.ranks import Ranks
from mnistcli.errors import EnvironmentFault

_PATIENCE = timedelta(minutes=10)  # for a rank that starts, or imports torch from a cold disk
_POLL_SECONDS = 0.05
_AGAIN = "start the same line again with --resume auto"


def join(ranks: Ranks) -> Store:
    """Connect to the launcher's store, below a name that this start of the ranks alone uses.

    The launcher keeps its store when it restarts them, and a machine's count of restarts is its
    own: so the first rank names the start, and tells whoever says hello with a fresh word. A
    process that no launcher started has a store of its own.

    Raises:
        EnvironmentFault: the launcher can't be reached.
    """
    if not ranks.launch:
        return HashStore()
    try:
        store, _, _ = next(rendezvous("env://", timeout=_PATIENCE))
    except DistError as error:
        first = str(error).partition("\n")[0]
        raise EnvironmentFault(f"the launcher of this rank can't be reached: {first}") from error
    word = secrets.token_hex(8)
    store.set(f"hello/{ranks.rank}", word)
    if ranks.leads:
        _welcome(store, word, range(1, ranks.size))
        return PrefixStore(word, store)
    start = read(store, f"welcome/{word}")
    store.set(f"{start}/joined/{ranks.rank}", "")
    return PrefixStore(start, store)


def _welcome(store: Store, start: str, others: range) -> None:
    """Answer hellos until every other rank has joined; one left by a dead rank does no harm."""
    joined = [f"{start}/joined/{rank}" for rank in others]
    while joined and not store.check(joined):
        for rank in others:
            if store.check([f"hello/{rank}"]):
                store.set(f"welcome/{store.get(f'hello/{rank}').decode()}", start)
        time.sleep(_POLL_SECONDS)


def read(store: Store, key: str) -> str:
    """Return a value, once it is there; torch's own wait would hold signals back.

    Raises:
        EnvironmentFault: the launcher is gone, and its store with it.
    """
    try:
        while not store.check([key]):
            time.sleep(_POLL_SECONDS)
        text: str = store.get(key).decode()
    except DistNetworkError as error:
        raise EnvironmentFault("the launcher of this rank is gone", hint=_AGAIN) from error
    return text


def below(store: Store, name: str) -> Store:
    """Return a part of the store with keys of its own."""
    return PrefixStore(name, store)


def arrived(store: Store, key: str) -> bool:
    """Return whether a value is there already.

    Raises:
        EnvironmentFault: the launcher is gone.
    """
    try:
        return bool(store.check([key]))
    except DistNetworkError as error:
        raise EnvironmentFault("the launcher of this rank is gone", hint=_AGAIN) from error


def claims(store: Store, count: int) -> Iterator[int]:
    """Yield the indices below `count` that no other rank took, the next when asked."""
    while not ended(store) and (index := store.add("claimed", 1) - 1) < count:
        yield index


def end(store: Store) -> None:
    """Let every rank stop at its next event: what one has met, all would."""
    store.set("ended", "")


def ended(store: Store) -> bool:
    """Return whether a rank has ended the set."""
    return bool(store.check(["ended"]))


def post(store: Store, message: str) -> None:
    """Append a message to those that the first rank reads."""
    store.set(f"posted/{store.add('posted', 1) - 1}", message)


def posted(store: Store, seen: int) -> list[str]:
    """Return the messages after the first `seen`.

    Raises:
        EnvironmentFault: the launcher is gone.
    """
    try:
        count = store.add("posted", 0)
    except DistNetworkError as error:
        raise EnvironmentFault("the launcher of this rank is gone", hint=_AGAIN) from error
    return [read(store, f"posted/{index}") for index in range(seen, count)]
