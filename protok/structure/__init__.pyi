from . import (
    backbone as backbone,
    clustering as clustering,
    descriptors as descriptors,
    geometry as geometry,
    io as io,
    metrics as metrics,
    poses as poses,
    store as store,
)
