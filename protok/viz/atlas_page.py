"""An atlas of a codebook as one HTML page: maps, and a table with a picture of each code."""

from __future__ import annotations

import numpy as np

from protok.viz.atlas import Atlas
from protok.viz.colours import COIL, HELIX, STRAND
from protok.viz.html import document, escaped, table

#: Å across a picture of a fragment, and its sides in pixels.
ACROSS, SIDE = 24.0, 54
#: Sides of a map in pixels.
MAP = 340
#: Columns of the table: title, what it says when pointed at, and how it is written.
COLUMNS = {
    "count": ("residues", "that have the code", "{:d}"),
    "frequency": ("share", "of all residues", "{:.2%}"),
    "helix": ("helix", "share of its residues, by P-SEA", "{:.0%}"),
    "strand": ("strand", "share of its residues, by P-SEA", "{:.0%}"),
    "phi": ("phi", "circular mean, degrees", "{:.0f}"),
    "phi_r": ("R", "length of the mean resultant of phi: 1 if all are the same", "{:.2f}"),
    "psi": ("psi", "circular mean, degrees", "{:.0f}"),
    "psi_r": ("R", "length of the mean resultant of psi: 1 if all are the same", "{:.2f}"),
    "neighbours": ("neighbours", "mean number of CA atoms within 10 Å", "{:.1f}"),
    "half_sphere": ("half sphere", "mean number of CA atoms within 13 Å towards CB", "{:.1f}"),
    "radius": ("radius, Å", "mean distance from the centre of the chain", "{:.1f}"),
    "radius_sd": ("sd", "standard deviation of the radius, Å", "{:.1f}"),
    "place_sd": (
        "spread, Å",
        "root mean square distance from its mean place in the frame of "
        "the chain: small if the code says where a residue lies",
        "{:.1f}",
    ),
}


def atlas_page(atlas: Atlas) -> str:
    """The page, which needs nothing else."""
    counts = atlas.summary()
    c = atlas.columns
    used = c["count"] > 0
    place = _where(c, used) if used.any() else ""
    source = f"<br>Made of {escaped(atlas.source)}." if atlas.source else ""
    centre, (x, y) = "distance from the centre, Å", c["place"].T[:2]
    body = [
        f"<h1>Codes of {escaped(atlas.codebook)}</h1>",
        f'<p class="note">{counts["codes_used"]} of {counts["codes"]} codes in '
        f"{counts['residues']:,} residues of {counts['chains']:,} chains; perplexity "
        f"{counts['perplexity']:.0f}. {place}{source}</p>",
        '<div class="maps">',
        _map(atlas, "phi and psi", c["phi"], c["psi"], "phi, °", "psi, °", (-180.0, 180.0)),
        _map(atlas, "exposure and radius", c["radius"], c["half_sphere"], centre, "CA towards CB"),
        _map(atlas, "place in the frame of the chain", x, y, "first axis, Å", "second axis, Å"),
        "</div>",
        '<p class="note">A dot is a code, as large as it is frequent. The bars of the table are '
        "helix, strand and coil. A picture shows the nine residues around the residue that is "
        "nearest to the code: CA trace, in the frame of that residue, which is the dark dot; the "
        "chain goes from light to dark. Click on a column to sort by it; filter by code, element or "
        "residue.</p>",
        _table(atlas),
    ]
    title = f"Codes of {atlas.codebook}"
    return document(title, "\n".join(body), styles=("table.css", "atlas.css"), scripts=("table.js",))


def _where(c: dict[str, np.ndarray], used: np.ndarray) -> str:
    """Of how wide the places of a code are, against those of all residues."""
    weight = c["count"][used]
    spread = np.sqrt(np.average(c["place_sd"][used] ** 2, weights=weight))
    centre = np.average(c["place"][used], axis=0, weights=weight)
    between = np.average(((c["place"][used] - centre) ** 2).sum(axis=1), weights=weight)
    share = between / (between + spread**2)
    return (
        f"A code explains {share:.0%} of the variance of where its residues lie in the frame of their chain."
    )


def _map(
    atlas: Atlas,
    title: str,
    x: np.ndarray,
    y: np.ndarray,
    x_label: str,
    y_label: str,
    limits: tuple[float, float] | None = None,
) -> str:
    """A dot for each code; the axes end at `limits`, or a little beyond the dots."""
    known = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    if not len(known):
        return ""
    count = atlas.columns["count"]
    (x0, x1), (y0, y1) = (limits or _around(values[known]) for values in (x, y))
    room = MAP - 40
    big = count[known].max()
    dots = []
    for i in known[np.argsort(-count[known], kind="stable")].tolist():
        across = 34 + room * (x[i] - x0) / (x1 - x0)
        down = 6 + room * (1 - (y[i] - y0) / (y1 - y0))
        size = 1.6 + 3.4 * np.sqrt(count[i] / big)
        dots.append(
            f'<a href="#c{i}"><circle cx="{across:.1f}" cy="{down:.1f}" r="{size:.1f}" '
            f'fill="{atlas.colours[i]}"><title>{i}</title></circle></a>'
        )
    end = 6 + room
    texts = "".join(
        f'<text x="{a}" y="{b}" text-anchor="{anchor}">{escaped(text)}</text>'
        for a, b, anchor, text in (
            (34, end + 14, "start", f"{x0:.0f}"),
            (34 + room, end + 14, "end", f"{x1:.0f}"),
            (34 + room / 2, end + 28, "middle", x_label),
            (30, end, "end", f"{y0:.0f}"),
            (30, 16, "end", f"{y1:.0f}"),
        )
    )
    texts += (
        f'<text transform="translate(16 {6 + room / 2}) rotate(-90)" text-anchor="middle">'
        f"{escaped(y_label)}</text>"
    )
    return (
        f'<figure><figcaption>{escaped(title)}</figcaption><svg width="{MAP}" height="{MAP}">'
        f'<rect x="34" y="6" width="{room}" height="{room}" fill="none" stroke="#ccc"/>'
        f"{texts}{''.join(dots)}</svg></figure>"
    )


def _around(values: np.ndarray) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    spare = 0.06 * (high - low) or 1.0
    return low - spare, high + spare


def _table(atlas: Atlas) -> str:
    c = atlas.columns
    head = '<th>code</th><th>fragment</th><th class="text">elements</th>'
    head += "".join(f'<th title="{escaped(tip)}">{escaped(title)}</th>' for title, tip, _ in COLUMNS.values())
    head += '<th>nearest codes</th><th class="text">central residue</th>'
    rows = []
    for i in range(len(atlas)):
        name = f"{c['letter'][i]} ({i})" if "letter" in c else str(i)
        cells = [
            f'<td><i style="background:{atlas.colours[i]}"></i> {escaped(name)}</td>',
            f"<td>{_picture(c['fragment'][i], atlas.colours[i])}</td>",
            f'<td class="text">{_elements(c["helix"][i], c["strand"][i])}</td>',
        ]
        cells += [
            f"<td>{form.format(c[key][i]) if np.isfinite(c[key][i]) else ''}</td>"
            for key, (_, _, form) in COLUMNS.items()
        ]
        near = "".join(f'<a href="#c{j}">{j}</a> ' for j in c["nearest"][i].tolist() if j >= 0)
        cells.append(f"<td>{near}</td>")
        cells.append(f'<td class="text">{escaped(" ".join(c["example"][i].tolist()))}</td>')
        rows.append(f'<tr id="c{i}">{"".join(cells)}</tr>')
    return table(head, rows)


def _elements(helix: float, strand: float) -> str:
    """A bar of all three, and the name of the one that most residues are in."""
    if not np.isfinite(helix):
        return ""
    parts, begin, marks = {"helix": (helix, HELIX), "strand": (strand, STRAND)}, 0.0, ""
    parts["coil"] = (1 - helix - strand, COIL)
    for share, colour in parts.values():
        if share > 0.005:
            marks += (
                f'<rect x="{60 * begin:.1f}" width="{60 * share:.1f}" height="10" '
                f'fill="rgb{colour}"/>'.replace(", ", ",")
            )
        begin += max(share, 0.0)
    return f'<svg width="60" height="10">{marks}</svg>{max(parts, key=lambda name: parts[name][0])}'


def _picture(fragment: np.ndarray, colour: str) -> str:
    """The CA trace of a fragment in the plane of x and y of its frame, light to dark."""
    ca = fragment[:, 1]
    known = np.flatnonzero(np.isfinite(ca).all(axis=1))
    if len(ca) // 2 not in known:
        return ""
    # Tenths of a pixel; the frame's origin, the middle residue, is the centre.
    x = (5 * SIDE + np.nan_to_num(ca[:, 0]) * 10 * SIDE / ACROSS).astype(int)
    y = (5 * SIDE - np.nan_to_num(ca[:, 1]) * 10 * SIDE / ACROSS).astype(int)
    steps = [i for i in known[:-1].tolist() if i + 1 in known]
    # What lies behind is drawn first.
    lines = "".join(
        f'<path class="s{i}" d="M{x[i]} {y[i]}L{x[i + 1]} {y[i + 1]}"/>'
        for i in sorted(steps, key=lambda i: ca[i, 2] + ca[i + 1, 2])
    )
    return (
        f'<svg width="{SIDE}" height="{SIDE}" viewBox="0 0 {10 * SIDE} {10 * SIDE}" '
        f'stroke="{colour}">{lines}<circle cx="{5 * SIDE}" cy="{5 * SIDE}" r="25"/></svg>'
    )
