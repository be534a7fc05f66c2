"""Typed errors: each says where, what was found, and how to mend it.

Everything that protok raises on purpose derives from `ProtokError`, so a batch
job can turn it into a row of its error table and go on.
"""

from __future__ import annotations

from os import PathLike


class ProtokError(ValueError):
    """Base of all errors that protok raises on purpose.

    Parameters
    ----------
    cause
        What was found, in one clause.
    remedy
        What the user can do about it, in one clause.
    file, chain
        Where, if known; they can be filled in later by a caller that knows
        more than the function that failed.
    """

    def __init__(
        self, cause: str, remedy: str = "", *, file: str | PathLike[str] = "", chain: str = ""
    ) -> None:
        super().__init__(cause)
        self.cause = cause
        self.remedy = remedy
        self.file = str(file)
        self.chain = chain

    @property
    def reason(self) -> str:
        """What was found and the remedy, without the place: a cell of the error table."""
        return f"{self.cause}; {self.remedy}" if self.remedy else self.cause

    def __str__(self) -> str:
        # Ids come from files: they must not make lines of their own.
        chain = f"chain {self.chain if self.chain.isprintable() else repr(self.chain)}" if self.chain else ""
        place = ", ".join(filter(None, (self.file, chain)))
        return f"{place}: {self.reason}" if place else self.reason


def as_error(error: Exception, file: str | PathLike[str] = "", chain: str = "") -> ProtokError:
    """Any exception as a `ProtokError` of a file, and of a chain where it names none.

    What is no `ProtokError` is a fault of ours, and says so.
    """
    if not isinstance(error, ProtokError):
        error = ProtokError(f"unexpected {type(error).__name__}: {error}", "please report it with the file")
    error.file = str(file)
    error.chain = error.chain or chain
    return error


class RecipeError(ProtokError):
    """A recipe has a key or value that means nothing."""


class FormatError(ProtokError):
    """The bytes are not a format that protok reads."""


class CorruptFile(ProtokError):
    """The format is known, but the content is damaged."""


class TruncatedFile(CorruptFile):
    """The file ends before its own end."""


class NoProtein(ProtokError):
    """The file is sound, but holds no protein residue."""


class ChainNotFound(ProtokError):
    """A chain or model was asked for that the file does not have."""


class CodebookMismatch(ProtokError):
    """Tokens of one codebook were given to a tokenizer with another."""


class Unsupported(ProtokError):
    """The tokenizer cannot do this, e.g. decode an alphabet that has no decoder."""
