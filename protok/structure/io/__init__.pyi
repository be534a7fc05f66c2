from . import (
    assemble as assemble,
    assembly as assembly,
    fetch as fetch,
    formats as formats,
    interop as interop,
    options as options,
    read as read,
    select as select,
    sequences as sequences,
    sources as sources,
    trajectory as trajectory,
    write as write,
)
