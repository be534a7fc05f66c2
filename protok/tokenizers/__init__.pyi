from . import (
    alphabets as alphabets,
    built as built,
    coded as coded,
    protocol as protocol,
    registry as registry,
    shapes as shapes,
    soft as soft,
)
