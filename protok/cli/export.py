"""`protok export`: token files for language models and sequence tools."""

from __future__ import annotations

import argparse

from protok.cli.options import OK, USAGE, count, out_file, say, say_uncoded
from protok.common.files import check_output


def export_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `protok export`."""
    parser.add_argument(
        "tokens", nargs="+", metavar="TOKENS", help="token files, or folders of Parquet files"
    )
    parser.add_argument(
        "-o", "--out", required=True, metavar="PATH", help="a folder, or with --letters a FASTA file"
    )
    parser.add_argument(
        "--letters",
        action="store_true",
        help="FASTA of letters for sequence tools, of alphabets with at most 20 codes "
        "(default: a folder with tokenizer.json and corpus.jsonl for language models)",
    )
    parser.add_argument(
        "--layout",
        choices=("letters", "blocks", "keyframes-first"),
        default="",
        help="of the corpus: letters alone; blocks of letters and their keyframe; keyframes-first "
        "(default: blocks where there are keyframes)",
    )
    parser.add_argument(
        "--pairs",
        action="store_true",
        help="residue type and letter together: one token of the corpus, with --letters as in SaProt",
    )
    parser.add_argument(
        "--environments",
        action="store_true",
        help="of the corpus: after each letter that of what lies around (of models that have environments)",
    )
    parser.add_argument(
        "--chains", action="store_true", help="of the corpus: a line a chain (default: a line a structure)"
    )
    parser.add_argument(
        "--positions",
        action="store_true",
        help="of the corpus: the residue of each token, and the numbers of residues in their file",
    )
    parser.add_argument(
        "--sequences", type=out_file, metavar="FILE", help="with --letters: where amino acids go"
    )


def export(arguments: argparse.Namespace) -> int:
    """Run `protok export`."""
    from itertools import chain

    from protok.tokens.export import write_corpus, write_letters
    from protok.tokens.files import scan

    of_corpus = {key: getattr(arguments, key) for key in ("layout", "environments", "chains", "positions")}
    if arguments.letters and any(of_corpus.values()):
        say("error: --layout, --environments, --chains and --positions are of a corpus; leave --letters out")
        return USAGE
    tokens = chain.from_iterable(map(scan, arguments.tokens))
    out = check_output(arguments.out, folder=not arguments.letters)
    out.parent.mkdir(parents=True, exist_ok=True)
    left_out: list[str] = []
    if arguments.letters:
        n = write_letters(tokens, out, arguments.sequences, left_out, pairs=arguments.pairs)
    else:
        n = write_corpus(tokens, out, left_out, pairs=arguments.pairs, **of_corpus)
    kind = "chain" if arguments.letters or arguments.chains else "structure"
    say(f"{count(n, kind)} in {arguments.out}")
    say_uncoded(left_out, "left out")
    return OK
