"""What is done with lists in several places: equal names numbered, things packed by size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


def numbered(names: Sequence[str], mark: str) -> list[str]:
    """The same names; later ones of several that are equal with `mark` and a number that is free.

    >>> numbered(["a", "a", "a-2"], "-")
    ['a', 'a-3', 'a-2']
    """
    taken, times = set(names), Counter()
    unique_names = []
    for name in names:
        times[name] += 1
        unique = name
        while times[name] > 1 and (unique := f"{name}{mark}{times[name]}") in taken:
            times[name] += 1
        taken.add(unique)
        unique_names.append(unique)
    return unique_names


def packed(things: Iterable[T], size: Callable[[T], int], most: int) -> Iterator[list[T]]:
    """Yield things in their order, together as long as their sizes sum to `most`; a larger one alone.

    >>> list(packed([3, 1, 9, 2], lambda x: x, 4))
    [[3, 1], [9], [2]]
    """
    group: list[T] = []
    held = 0
    for thing in things:
        if group and held + size(thing) > most:
            yield group
            group, held = [], 0
        group.append(thing)
        held += size(thing)
    if group:
        yield group


def alike(keys: Iterable[Hashable], most: int | Callable[[Any], int]) -> Iterator[list[int]]:
    """Yield numbers of things with equal keys, at most so many together.

    Parameters
    ----------
    keys
        Of each thing, in order.
    most
        A number, or what makes it of a key.

    >>> list(alike("abaa", 2))
    [[0, 2], [3], [1]]
    """
    groups: dict[Any, list[int]] = {}
    for i, key in enumerate(keys):
        groups.setdefault(key, []).append(i)
    for key, group in groups.items():
        n = most if isinstance(most, int) else most(key)
        yield from (group[start : start + n] for start in range(0, len(group), n))
