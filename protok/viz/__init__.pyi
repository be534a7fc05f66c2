from . import (
    atlas as atlas,
    atlas_page as atlas_page,
    colours as colours,
    html as html,
    plots as plots,
    scripts as scripts,
    viewer as viewer,
)
