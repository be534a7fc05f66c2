"""Columns of numbers from text, many at once.

Structure files are mostly coordinates of at most eight characters. Those are
parsed as 64-bit words, all characters of a number at once; the rest by numpy.
"""

from __future__ import annotations

import contextlib
import re

import numpy as np

from protok.errors import CorruptFile


def _bytes(value: int) -> np.uint64:
    """Eight times the same byte."""
    return np.uint64(value * 0x0101010101010101)


_DIGIT = _bytes(0x10)  # the bit that tells a digit from blank, minus and point
_ONE, _SIX, _BLANK, _HIGH, _MINUS = map(_bytes, (0x01, 0x06, ord(" "), 0xF0, ord("-") ^ ord(" ")))
_POINTS, _ZERO, _TOP, _LAST = _bytes(ord(".")), _bytes(ord("0")), _bytes(0x80), np.uint64(1 << 63)
_U4, _U8, _U16, _U24, _U32 = (np.uint64(n) for n in (4, 8, 16, 24, 32))
_POINT, _POINT_BYTE = np.uint64(ord(".") << 32), np.uint64(0xFF << 32)
_BEFORE, _AFTER = np.uint64(0xFFFFFFFF), np.uint64(0xFFFFFF << 40)
_UNIT, _FILL = np.uint64(1), np.uint64(0xFF)
# Pairs of digits to numbers, pairs of those, pairs of those: the known SWAR parser.
_PAIR, _FOUR, _EIGHT = (np.uint64(n) for n in (2561, 6553601, 42949672960001))
_PAIRS, _FOURS = np.uint64(0x00FF00FF00FF00FF), np.uint64(0x0000FFFF0000FFFF)


def thousandths(words: np.ndarray) -> np.ndarray | None:
    """Parse eight-byte words (n,) of the form `%8.3f`, None if any is not of that form.

    All eight characters at once as one little-endian integer: several times
    faster than numpy's own parser, which is what reading a file spends most on.
    """
    wrong = (words ^ _POINT) & _POINT_BYTE
    # Cut out the point, put a blank in front: seven digits, right-aligned.
    text = (words & _BEFORE) << _U8 | words & _AFTER | np.uint64(ord(" "))
    digit = text >> _U4 & _ONE  # bit 4 tells digits from blank and minus
    fill = digit * _FILL
    space = ~fill
    wrong |= space & (space + _UNIT) | space & _AFTER  # no blank after a digit or the point
    text ^= _BLANK | digit << _U4  # leaves 0-9 of digits, 0 of blanks, and the minus
    value = text & fill
    wrong |= (value + _SIX | value) & _HIGH
    sign = text ^ value
    minus = sign != 0
    if minus.any():
        last = space & ~(space >> _U8) & _MINUS  # a minus in the last place before the digits
        wrong |= (sign ^ last) * minus
    if wrong.any():
        return None
    value *= _PAIR
    value = (value >> _U8 & _PAIRS) * _FOUR
    value = (value >> _U16 & _FOURS) * _EIGHT
    number = (value >> _U32) / 1000.0
    np.negative(number, out=number, where=minus)
    return number


def pad_decimals(words: np.ndarray) -> np.ndarray | None:
    """Make `12.5` and `12` of eight characters, right-aligned, three decimals long.

    None if a number has more decimals, or no room, or is none, as `.` in mmCIF.
    """
    if (words & _DIGIT == 0).any():
        return None
    points = words ^ _POINTS
    points = (points - _ONE) & ~points & _TOP  # the lowest set bit marks the first
    bare = points == 0
    if bare.any():
        if ((words & _FILL != np.uint64(ord(" "))) & bare).any():
            return None
        words = np.where(bare, words >> _U8 | _POINT << _U24, words)
        points[bare] = _LAST
    lowest = points & (~points + _UNIT)
    place = np.log2(lowest.astype(np.float64)).astype(np.uint64) // _U8
    if place.min(initial=4) < 4:
        return None
    shift = (place - _U4) * _U8
    lost = (_UNIT << shift) - _UNIT
    if ((words ^ _BLANK) & lost).any():
        return None
    return words >> shift | _ZERO & ~(~np.uint64(0) >> shift)


def has_underscore(text: np.ndarray) -> bool:
    """Whether a bytes array has an underscore: Python and numpy read 1_0 as a number, no format does."""
    return bool((np.ascontiguousarray(text).view(np.uint8) == ord("_")).any())


_UNCERTAINTY = re.compile(rb"(?<=[\d.])\(\d+\)$")


def floats(text: np.ndarray, empty: float, what: str) -> np.ndarray:
    """Numbers of a bytes array; `empty` for blank, `.` and `?`, NaN for asterisks.

    A standard uncertainty, as in `68.844(5)`, is no part of the number.

    An array of numbers passes through, with `empty` for NaN.

    Raises
    ------
    CorruptFile
        If anything else is not a number; columns that slipped end here.
    """
    if text.dtype.kind != "S":
        return np.where(np.isnan(text), empty, text)
    if not has_underscore(text):
        with contextlib.suppress(ValueError):
            return text.astype(np.float64)
    values = np.empty(text.size)
    for i, item in enumerate(text.ravel().tolist()):
        item = _UNCERTAINTY.sub(b"", item.strip())
        try:
            values[i] = float(item.replace(b"_", b"?"))
        except ValueError:
            if item in (b"", b".", b"?"):
                values[i] = empty
            elif not item.strip(b"*"):
                values[i] = np.nan
            else:
                raise CorruptFile(
                    f"{item.decode('latin-1')!r} stands where a {what} should",
                    "check that the columns have not slipped",
                ) from None
    return values.reshape(text.shape)
