"""How a contract says that it is broken."""


def require(holds: bool, otherwise: str) -> None:
    """Raise AssertionError with these words unless something holds."""
    # Not an assert statement: those vanish under python -O.
    if not holds:
        raise AssertionError(otherwise)
