from . import (
    backbone as backbone,
    clustering as clustering,
    descriptors as descriptors,
    geometry as geometry,
    io as io,
    metrics as metrics,
    poses as poses,
    sequence_search as sequence_search,
    store as store,
)
