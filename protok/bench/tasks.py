"""What is measured: each task as data, with its version, licence, citation and metric.

The twelve supervised tasks are those of StructTokenBench (arXiv:2503.00089), which have 24
test splits; they need labels from a data folder. The others need structures only. A data
folder may hold further tables, which become tasks of their own by `of_table`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

STRUCTTOKENBENCH = "Yuan et al., ICML 2025, arXiv:2503.00089"
SITE_SPLITS = ("fold_test", "superfamily_test")
HOMO_SPLITS = ("test_fold_holdout", "test_superfamily_holdout", "test_family_holdout")


@dataclass(frozen=True)
class Task:
    """One question put to a tokenizer.

    Attributes
    ----------
    name
        As in result files and on the command line.
    what
        The question in one line.
    kind
        `site` (a 0/1 a residue), `value` (a number a residue), `class` (one a domain),
        `pairs`, `codes`, `structures` or `domains`: what the data folder must supply.
    metric
        Main metric, a key of the result's scores.
    better
        `higher`, `lower`, or empty where neither end is the good one.
    splits
        Test splits, or sets of structures; empty where the data folder says which there are.
    chance
        Value of the main metric for a tokenizer that knows nothing, where that is a constant.
    version
        Goes up when the same data would give other numbers; part of the cache key.
    labels
        How the labels are made.
    licence, citation
        Of the data that the labels come from.
    beside
        Metrics without which the main one says little, each with what is better of it.
    """

    name: str
    what: str
    kind: str
    metric: str
    better: str = "higher"
    splits: tuple[str, ...] = ()
    chance: float | None = None
    version: int = 1
    labels: str = ""
    licence: str = ""
    citation: str = ""
    beside: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def supervised(self) -> bool:
        """Whether a probe is trained on labels."""
        return self.kind in ("site", "value", "class")


INTERPRO = (
    "InterPro 2024-05-29, {kind} entries: residue i is 1 if its author number lies in the first "
    "fragment's UniProt range; examples without a positive are dropped. UniProt numbers are used "
    "as author numbers, as in the reference."
)
INTERPRO_PAPER = "Paysan-Lafosse et al., NAR 2023, doi:10.1093/nar/gkac993"
BIOLIP_PAPER = "Zhang et al., NAR 2024, doi:10.1093/nar/gkad630"
ATLAS_PAPER = "Vander Meersche et al., NAR 2024, doi:10.1093/nar/gkad1084"
ASK = "not stated with the labels: ask the source before passing them on"
PDB = "CC0 1.0 (coordinates of the PDB)"


def _site(name: str, what: str, labels: str, licence: str, paper: str, splits=SITE_SPLITS) -> Task:
    citation = f"{STRUCTTOKENBENCH}; {paper}"
    return Task(name, what, "site", "auroc", "higher", splits, 0.5, 1, labels, licence, citation)


def _interpro(name: str, what: str, kind: str) -> Task:
    return _site(name, what, INTERPRO.format(kind=kind), "CC0 1.0 (InterPro)", INTERPRO_PAPER)


def _atlas(name: str, what: str, labels: str) -> Task:
    licence, citation = "CC BY-NC 4.0 (ATLAS)", f"{STRUCTTOKENBENCH}; {ATLAS_PAPER}"
    return Task(name, what, "value", "spearman", "higher", SITE_SPLITS, 0.0, 1, labels, licence, citation)


SUPERVISED = (
    _interpro("BindInt", "binding sites of InterPro", "Binding_site"),
    _site(
        "BindBio",
        "ligand binding residues of BioLiP2",
        "BioLiP2 binding residues, one example a ligand site; ligands with fewer than 5 rows "
        "dropped; joined by author residue number",
        ASK,
        BIOLIP_PAPER,
    ),
    _site(
        "BindShake",
        "ligand interface of ProteinShake",
        "ProteinShake ProteinLigandInterface, structure_split_0.7; residues within about 8.5 Å of the ligand",
        ASK,
        "Kucera et al., NeurIPS 2023 (ProteinShake)",
        ("test",),
    ),
    _interpro("CatInt", "active sites of InterPro", "Active_site"),
    _site("CatBio", "catalytic residues of BioLiP2", "BioLiP2 catalytic column", ASK, BIOLIP_PAPER),
    _interpro("Con", "conserved sites of InterPro", "Conserved_site"),
    _interpro("Rep", "repeats of InterPro", "Repeat"),
    _site(
        "Ept",
        "protein-protein interface of ProteinGLUE (called epitope region)",
        "ProteinGLUE Interface column, by global sequence alignment; residues that do not align are 0",
        ASK,
        "Capel et al., Sci. Rep. 2022, doi:10.1038/s41598-022-19608-4",
    ),
    _atlas("FlexRMSF", "flexibility: RMSF in simulation", "ATLAS RMSF x 1"),
    _atlas("FlexBFactor", "flexibility: CA B-factor", "CA B-factor of the file x 0.01"),
    _atlas("FlexNEQ", "flexibility: local deformability Neq", "ATLAS Neq x 0.1"),
    Task(
        "Homo",
        "remote homology: the fold of a domain",
        "class",
        "macro_f1",
        splits=HOMO_SPLITS,
        labels="SCOP 1.75 folds of TAPE's remote homology; 45 folds of >= 50 training proteins",
        licence=ASK,
        citation=f"{STRUCTTOKENBENCH}; Rao et al., NeurIPS 2019 (TAPE)",
    ),
)

TRAINING_FREE = (
    Task(
        "sensitivity",
        "do codes change as the conformation does?",
        "pairs",
        "pearson",
        chance=0.0,
        labels="TM-score of two structures of one protein: mean of the two normalisations of "
        "TM-align on CA. Score: global alignment of the code strings, S = 100 cos(e_i, e_j) "
        "rounded to integers, linear gap -10, not divided by length. Residues without a token "
        "are left out of the strings.",
        licence=PDB + "; pair lists MIT (EigenFold)",
        citation=f"{STRUCTTOKENBENCH}; Jing et al. 2023, arXiv:2304.02198 (EigenFold)",
    ),
    Task(
        "distinctiveness",
        "are code vectors unlike each other?",
        "codes",
        "mean_cosine",
        "lower",
        labels="Cosine of all pairs of code vectors, diagonal included; `weighted`: a pair counts "
        "n_i n_j times, n the usage on the structures",
        licence=PDB,
        citation=STRUCTTOKENBENCH,
    ),
    Task(
        "utilization",
        "is the codebook used?",
        "structures",
        "perplexity",
        labels="p = code frequencies of a protein: use = codes used / K, perplexity = exp(H), both "
        "the mean over proteins; `pooled`: of all residues together. The reference shows "
        "perplexity / K, here `perplexity_share`. Compression: decimal digits of the codes over "
        "72 L, as there; bits a letter: log2 K. MUV of the paper's table is not reported: "
        "neither paper nor code defines it well enough to compute.",
        licence=PDB,
        citation=STRUCTTOKENBENCH,
    ),
    Task(
        "reconstruction",
        "do codes decode to the structure?",
        "structures",
        "rmsd",
        "lower",
        beside={"lddt": "higher", "bits_a_residue": "lower"},
        labels="CA RMSD, TM-score with known correspondence, CA lDDT: means over chains; bits a residue: of "
        "every code that is stored, keyframes and links too",
        licence=PDB,
        citation="Zhang & Skolnick 2004 (TM-score); Mariani et al. 2013 (lDDT)",
    ),
    Task(
        "rate",
        "what do bits buy?",
        "structures",
        "rmsd",
        "lower",
        beside={"bits_a_residue": "lower", "foretold_bits": "lower"},
        labels="Of each spacing of keyframes: CA RMSD and lDDT, means over chains; bits a residue of every "
        "code that is stored, keyframes and links too, nominal and as the language model of `learnability` "
        "foretells them from those before, a keyframe behind the letters of its block",
        licence=PDB,
    ),
    Task(
        "learnability",
        "how much of the codes can be foretold?",
        "structures",
        "bits",
        "lower",
        beside={"share": "lower"},
        labels="Bits a residue that one GRU layer of 256 cannot foretell after 2,000 steps of 64 x 256 "
        "letters of other chains; without context (unigram), nominal (log2 K), and the share of it. "
        "Of two alphabets (NAME:both) a letter of either, one after the other. A code that says nothing "
        "costs little: read it beside what codes tell",
        licence=PDB,
    ),
    Task(
        "mirror",
        "does a mirror image get other codes?",
        "structures",
        "changed",
        chance=0.0,
        labels="Share of residues whose code changes when x is negated; continuous: distance of "
        "the two embeddings over the typical distance of two residues",
        licence=PDB,
    ),
    Task(
        "rotation",
        "are codes invariant to rotation and translation?",
        "structures",
        "same",
        labels="Share of residues with the same code after a random rotation and a shift of up to "
        "100 Å; continuous: 1 - relative change of the embedding",
        licence=PDB,
    ),
    Task(
        "stability",
        "do codes stay the same under noise?",
        "structures",
        "same_0.1",
        labels="Share of residues with the same code after Gaussian noise on every atom, standard "
        "deviation 0.05, 0.1, 0.2 and 0.5 Å; continuous: 1 - relative change. Discrete also: bits that "
        "the codes under 0.2 Å tell of those before (mutual information)",
        licence=PDB,
    ),
    Task(
        "cut",
        "do codes stay when the chain is cut?",
        "structures",
        "middle_half",
        labels="Share of the codes of a piece, encoded alone, that the whole chain has there, mean over "
        "chains of 60 residues and more: L/4 to 3L/4, all but the last ten, the first half",
        licence=PDB,
    ),
    Task(
        "domain_in_chain",
        "does a domain have the codes that it has in its chain?",
        "domains",
        "same",
        labels="Share of the codes of a domain, encoded alone, that its chain has there, mean over domains "
        "that are less than nine tenths of their chain",
        licence=PDB,
    ),
    Task(
        "fragments",
        "does a slice of the tokens decode alone?",
        "structures",
        "ratio",
        "lower",
        labels="RMSD of slices of 40 residues, of unbroken chain and 20 from its ends at least, decoded "
        "alone, over that of the same residues of the decoded chain, each superposed for itself; "
        "letters_8, _16, _32: RMSD of stretches decoded without keyframes",
        licence=PDB,
    ),
    Task(
        "length",
        "are long chains coded as well as short ones?",
        "structures",
        "lddt_lost",
        "lower",
        beside={"letters_lost": "lower"},
        labels="lDDT of chains of 100 to 300 residues less that of 500 and more; letters_lost: log2 of the "
        "perplexity of all their codes, likewise; RMSD, lDDT and perplexity by length. The perplexity of "
        "few residues is low",
        licence=PDB,
    ),
    Task(
        "wrong_codes",
        "what does one wrong code cost far away?",
        "structures",
        "lddt_lost_aside_letter",
        "lower",
        labels="One letter, or one keyframe, in the middle of a chain drawn anew: lDDT lost by residues more "
        "than 16 positions away, of pairs on one side of it (aside) and of all pairs (beyond); CA RMSD then, "
        "and with 5 % of the letters drawn anew",
        licence=PDB,
    ),
    Task(
        "complexes",
        "do complexes decode as complexes?",
        "structures",
        "rmsd",
        "lower",
        labels="All chains superposed together: CA RMSD; share of CA pairs of different chains within 8 Å "
        "whose distance is kept to within 2 Å",
        licence=PDB,
    ),
    Task(
        "homologs",
        "what does a code tell of that in its place in a homolog?",
        "domains",
        "bits",
        labels="Pairs of domains of one SCOP superfamily, one a sequence cluster, with a TM-score of 0.5 or "
        "more: mean of log2 p(b | a) / p(b) over residues within 5 Å by TM-align, p of other superfamilies; "
        "bits_inside: codes of the domains in their chains; agreement: share of equal codes beyond chance, "
        "and by the TM-score of the pair",
        licence=ASK,
        citation="Andreeva et al., NAR 2020, doi:10.1093/nar/gkz1064 (SCOP2)",
    ),
    Task(
        "retrieval",
        "is the most similar code string of the same fold?",
        "domains",
        "top1",
        labels="Domains with SCOP fold and superfamily, one a sequence cluster: each is a query "
        "against all others; local alignment of the code strings, S = 100 (cos - mean cos over "
        "residues), gap -60, score over the geometric mean of the self-scores. top1: share whose "
        "best hit has the query's fold; hits of the query's own family are removed first where "
        "families are known. `chance`: the same for a random hit.",
        licence=ASK,
        citation="Andreeva et al., NAR 2020, doi:10.1093/nar/gkz1064 (SCOP2)",
    ),
)

TASKS: dict[str, Task] = {task.name: task for task in (*SUPERVISED, *TRAINING_FREE)}
#: Those on structures alone; no table of labels may have their names.
UNTAUGHT = tuple(task.name for task in TRAINING_FREE)

#: Main metric and its value at chance, by kind of table.
METRICS = {"site": ("auroc", 0.5), "value": ("spearman", 0.0), "class": ("macro_f1", None)}


def of_table(name: str, kind: str, splits: tuple[str, ...], about: dict[str, str]) -> Task:
    """The task of a table in a data folder: the official one of that name, or one of its own.

    Parameters
    ----------
    about
        What the table says of itself: `what`, `labels`, `licence`, `citation`, `version`.
    """
    official = TASKS.get(name)
    if official is not None and official.kind == kind:
        return official
    metric, chance = METRICS[kind]
    return Task(
        name,
        about.get("what", "a table of the data folder"),
        kind,
        metric,
        splits=splits,
        chance=chance,
        version=int(about.get("version", 1)),
        labels=about.get("labels", "as given in the table"),
        licence=about.get("licence", ASK),
        citation=about.get("citation", ""),
    )
