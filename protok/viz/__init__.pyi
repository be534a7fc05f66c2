from . import (
    atlas as atlas,
    atlas_page as atlas_page,
    colours as colours,
    html as html,
    meaning as meaning,
    plots as plots,
    schemes as schemes,
    scripts as scripts,
    viewer as viewer,
)
