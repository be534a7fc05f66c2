"""Compare protok's reading of structure files with gemmi's, residue by residue, and explain what differs.

    python -m benchmarks.accuracy.readers FOLDER ... [--json]

gemmi reads PDB and mmCIF (biotite the PDB files that gemmi refuses, and decodes BinaryCIF for
it). Chain, number, insertion code, letter and backbone coordinates of the first model are
compared; each difference is counted under the rule of protok that explains it
(`benchmarks/accuracy/reading_rules.py`). What no rule explains is printed, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import gemmi
import numpy as np

import protok
from benchmarks.accuracy.peers import Refused, Site, sites_of
from benchmarks.accuracy.reading_rules import (
    Row,
    bonded,
    explain_atoms,
    explain_kept,
    explain_left_out,
    explain_letter,
    explain_place,
    explain_refusal,
    letter_of,
)
from benchmarks.command import without_traceback
from protok.errors import FormatError, NoProtein, ProtokError
from protok.structure.backbone import Backbone
from protok.structure.io.sources.paths import iter_files

_SPLIT = re.compile(r"^chain '(.*)' is \d+ chains by TER, segment or numbers: (.*)$")

ALONE = "read by protok alone"


@dataclass
class Comparison:
    """What comparing one file gave: differences by rule, and those without one."""

    file: str
    peer: str = ""
    residues: int = 0
    rules: Counter[str] = field(default_factory=Counter)
    unexplained: list[str] = field(default_factory=list)

    def add(self, rule: str | None, what: str) -> None:
        """Count a difference; an empty rule is none."""
        if rule is None:
            self.unexplained.append(what)
        elif rule:
            self.rules[rule] += 1


def compare(path: Path) -> Comparison:
    """Compare the reading of one file."""
    result = Comparison(str(path))
    backbone: Backbone | None = None
    refusal: ProtokError | None = None
    try:
        backbone = protok.read(path)
    except ProtokError as error:
        refusal = error
    try:
        sites, result.peer = sites_of(path.read_bytes())
    except Refused as error:
        if backbone is not None:
            result.rules[f"{ALONE} ({error})"] += 1
        else:
            result.rules["refused by all"] += 1
        return result
    if backbone is not None:
        _compare(result, backbone, sites)
    elif not any(letter_of(site.name)[0] for site in sites):
        result.rules["refused by protok, and no amino acid for the peer"] += 1
    elif isinstance(refusal, NoProtein):
        _leave_out(result, sites, {}, bonded(sites))
    else:
        assert refusal is not None
        foreign = isinstance(refusal, FormatError)
        rule = "refused: format that is not read" if foreign else explain_refusal(refusal.cause)
        result.add(rule, f"refused: {refusal.reason}")
    return result


def _place(chain: str, number: int, icode: str) -> str:
    return f"{chain or '(blank)'} {number}{icode}"


def _compare(result: Comparison, backbone: Backbone, sites: list[Site]) -> None:
    """Match protok's residues with those of the file, in their order, and explain what differs."""
    rows = _rows(result, backbone)
    result.residues = len(rows)
    sites = _join_parts(result, sites)
    joined = bonded(sites)
    places: dict[tuple, list[int]] = defaultdict(list)
    for i, site in enumerate(sites):
        places[site.chain, site.number, site.icode].append(i)
    kept: dict[int, int] = {}  # residue of the file to that of protok
    lone: list[int] = []
    for j, row in enumerate(rows):
        free = [i for i in places.get((row.chain, row.number, row.icode), ()) if i not in kept]
        if free:
            kept[min(free, key=lambda i: (_misfit(sites[i], row), i))] = j
        else:
            lone.append(j)
    _match_moved(result, rows, lone, sites, kept)
    for i, j in kept.items():
        _explain_pair(result, sites, places, i, rows[j], joined[i])
    order = [kept[i] for i in sorted(kept)]
    if order != sorted(order):
        result.add(None, "residues are not in the order of the file")
    _check_splits(result, backbone, sites, kept)
    _check_places(result, backbone)
    _leave_out(result, sites, kept, joined)


def _rows(result: Comparison, backbone: Backbone) -> list[Row]:
    """protok's residues, chains that it tells apart back under the id of the file."""
    original: dict[str, str] = {}
    for note in backbone.notes:
        if match := _SPLIT.match(note):
            original |= dict.fromkeys(match[2].split(", "), match[1])
            result.rules["chains: an id stands for several, told apart by TER, segment or numbers"] += 1
    return [
        Row(original.get(str(chain), str(chain)), int(number), str(icode), letter, coords)
        for chain, number, icode, letter, coords in zip(
            backbone.chain, backbone.index, backbone.icode, backbone.sequence, backbone.coords, strict=True
        )
    ]


def _join_parts(result: Comparison, sites: list[Site]) -> list[Site]:
    """Put parts of a residue together that the file lists apart, no atom of one in another."""
    whole: dict[tuple, Site] = {}
    joined = []
    for site in sites:
        key = (site.chain, site.number, site.icode, site.name, site.part if site.atoms else -1)
        first = whole.setdefault(key, site)
        if first is site or {(a.slot, a.alt) for a in first.atoms} & {(a.slot, a.alt) for a in site.atoms}:
            joined.append(site)
            continue
        first.atoms.extend(site.atoms)
        result.rules["residue listed in several parts"] += 1
    return joined


def _misfit(site: Site, row: Row) -> int:
    """How little a residue of the file is like one of protok."""
    rules, problem = explain_atoms(site, [], row)
    return 4 * (explain_letter(site, row.letter) is None) + 2 * bool(problem) + bool(rules)


def _match_moved(
    result: Comparison, rows: list[Row], lone: list[int], sites: list[Site], kept: dict[int, int]
) -> None:
    """Match residues by coordinates that the file has under another chain, number or code."""
    free: dict[tuple, list[int]] = defaultdict(list)
    for i, site in enumerate(sites):
        if i not in kept:
            for atom in site.atoms:
                free[_spot(atom.xyz)].append(i)
    for j in lone:
        row = rows[j]
        spots = [_spot(xyz) for xyz in row.coords if np.isfinite(xyz).all()]
        i = next((i for spot in spots for i in free.get(spot, ()) if i not in kept), None)
        where = _place(row.chain, row.number, row.icode)
        if i is None:
            result.add(None, f"{where} {row.letter}: the file has no such residue")
            continue
        site = sites[i]
        kept[i] = j
        result.add(
            explain_place(site, row),
            f"{where}: is {_place(site.chain, site.number, site.icode)} for the peer",
        )


def _spot(xyz: np.ndarray) -> tuple:
    return tuple(np.asarray(xyz, float).round(2).tolist())


def _explain_pair(
    result: Comparison, sites: list[Site], places: dict[tuple, list[int]], i: int, row: Row, joined: bool
) -> None:
    site = sites[i]
    where = f"{_place(row.chain, row.number, row.icode)} {site.name}"
    rivals = [sites[k] for k in places[site.chain, site.number, site.icode] if k != i]
    whole = _named_whole(site, row)
    result.add(explain_letter(whole, row.letter), f"{where}: letter {row.letter}")
    result.add(explain_kept(whole, joined), f"{where}: kept, though no amino acid")
    rules, problem = explain_atoms(site, rivals, row)
    for rule in rules:
        result.add(rule, "")
    if problem:
        result.add(None, f"{where}: {problem}")


def _named_whole(site: Site, row: Row) -> Site:
    """The residue with the letter of its name that the peer took for a chain."""
    if site.chain == row.chain or len(site.chain) < 2:
        return site
    fields = {**vars(site), "name": site.name + site.chain[0], "chain": site.chain[1:]}
    return Site(**fields)


def _check_splits(result: Comparison, backbone: Backbone, sites: list[Site], kept: dict[int, int]) -> None:
    """Where protok tells chains of one id apart, the file must have a border."""
    back = {j: sites[i] for i, j in kept.items()}
    for j in range(1, len(backbone)):
        before, after = back.get(j - 1), back.get(j)
        if before is None or after is None or before.chain != after.chain:
            continue
        if backbone.chain[j] != backbone.chain[j - 1]:
            border = before.part != after.part or before.segment != after.segment
            if not border and after.number > before.number:
                where = _place(after.chain, after.number, after.icode)
                result.add(None, f"{where}: a new chain {backbone.chain[j]} without a border in the file")


def _check_places(result: Comparison, backbone: Backbone) -> None:
    """No two residues of a structure have the same chain, number and insertion code."""
    places = zip(backbone.chain.tolist(), backbone.index.tolist(), backbone.icode.tolist(), strict=True)
    for place, count in Counter(places).items():
        if count > 1:
            result.add(None, f"{_place(*place)}: stands for {count} residues")


def _leave_out(result: Comparison, sites: list[Site], kept: dict[int, int], joined: list[bool]) -> None:
    """Explain what of the file protok does not have."""
    rivals: dict[tuple, list[Site]] = defaultdict(list)
    for i in kept:
        rivals[sites[i].chain, sites[i].number, sites[i].icode].append(sites[i])
    for i, site in enumerate(sites):
        if i not in kept:
            others = rivals.get((site.chain, site.number, site.icode), [])
            where = _place(site.chain, site.number, site.icode)
            result.add(explain_left_out(site, others, joined[i]), f"{where} {site.name}: left out")


def main() -> None:
    """Compare all files and print what differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("paths", nargs="+", metavar="FOLDER", help="folders or files")
    parser.add_argument("--json", action="store_true", help="one JSON object a file")
    options = parser.parse_args()
    gemmi.set_leak_warnings(False)
    total: Counter[str] = Counter()
    files = residues = wrong = 0
    for path in iter_files(options.paths):
        result = compare(path)
        files += 1
        residues += result.residues
        wrong += len(result.unexplained)
        for rule, count in result.rules.items():
            total[rule.split(" (")[0]] += count
        if options.json:
            print(json.dumps(vars(result)))
        else:
            for rule in result.rules:
                if rule.startswith(ALONE):
                    print(f"{path}: not compared: {rule}")
            for line in result.unexplained[:20]:
                print(f"{path}: unexplained: {line}")
            if len(result.unexplained) > 20:
                print(f"{path}: unexplained: {len(result.unexplained) - 20} more")
    if not options.json:
        for rule, count in sorted(total.items()):
            print(f"{count:8}  {rule}")
        print(f"{files} files, {residues} residues read, {wrong} differences unexplained")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    without_traceback(main)
