from . import (
    assemble as assemble,
    formats as formats,
    interop as interop,
    read as read,
    sources as sources,
    write as write,
)
