from . import (
    alphabets as alphabets,
    built as built,
    coded as coded,
    environments as environments,
    protocol as protocol,
    registry as registry,
    shapes as shapes,
    soft as soft,
)
