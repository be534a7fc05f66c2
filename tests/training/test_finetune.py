"""Fine-tuning of a tiny model: what becomes of its codes, when it stops, what it reports."""

import csv
import json
import re
import shutil
import warnings
import xml.etree.ElementTree as ElementTree
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("lightning", reason="training is an extra")

import protok
from protok.cli import main
from protok.common.callbacks import read_metrics
from protok.common.checkpoint import TRANSIENT
from protok.model.network import ShapeNetwork
from protok.structure.store import open_store
from protok.tokenizers.shapes import ShapeTokenizer
from protok.training import finetune, module, run
from protok.training.card import card as card_of
from protok.training.config import RecipeError, read_recipe
from protok.training.report import (
    BUNDLED,
    MEASURES,
    ChainSet,
    change,
    compare_models,
    conclusion,
    forgetting_set,
    markdown,
    report_tuning,
)
from protok.training.splits import Splits
from tests.helpers.models import SMALL
from tests.helpers.tiny_runs import TINY, TUNE, write_structures

pytestmark = pytest.mark.slow

#: Without early stopping: the weights after the last step are those that are kept.
LAST = TUNE | {"valid.patience": 0}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Folder of a model of the shipped kind, with trained codes."""
    folder = tmp_path_factory.mktemp("base")
    chains = write_structures(folder / "pdbs", range(30, 70, 4))
    few = TINY | {"optim.steps": 30, "valid.every": 30}
    return run.run(structures=chains, out=folder / "run", overrides=few)


@pytest.fixture(scope="module")
def structures(tmp_path_factory):
    return write_structures(tmp_path_factory.mktemp("mine") / "pdbs", [26] * 8, "mine{}")


@pytest.fixture(scope="module")
def tuned(base, structures, tmp_path_factory):
    """Runs of fine-tuning, one for each fate of the codebook, and what they warn of."""
    out = tmp_path_factory.mktemp("tuned")
    for mode in finetune.CODEBOOKS:
        settings = LAST | {"finetune.codebook": mode, "optim.lr": 1e-3}
        run.run(structures=structures, init=base, out=out / mode, overrides=settings)
    return out


def moved(before, after, part: str) -> float:
    mine, theirs = before.network.state_dict(), after.network.state_dict()
    keys = [key for key in mine if key.startswith(part) and mine[key].is_floating_point()]
    return max(float((mine[key] - theirs[key]).abs().max()) for key in keys)


def test_frozen_codes_stay_to_the_byte_while_the_refiner_learns(base, tuned, structures):
    before, after = protok.load(base), protok.load(tuned / "frozen" / "model")
    assert after.codebook == before.codebook
    for name, value in before.network.state_dict().items():
        if not name.startswith("refiner.") and not name.endswith(TRANSIENT):
            assert torch.equal(value, after.network.state_dict()[name]), name
    # What it had learnt may not have held on what was held out: then the model is what it was.
    assert (moved(before, after, "refiner.") > 0) == (after.provenance["best_step"] > 0)
    for file in sorted(structures.glob("*.pdb")):
        ours, theirs = (model.encode(protok.read(file)) for model in (before, after))
        assert (ours.ids == theirs.ids).all() and ours.keyframes.text == theirs.keyframes.text
    assert np.isfinite(after.decode(ours).coords).all()
    rows = read_metrics(tuned / "frozen" / "metrics.csv")
    assert {row["hardness"] for row in rows if "hardness" in row} == {1.0}
    path = tuned / "frozen" / "checkpoints" / "last.ckpt"
    during = torch.load(path, weights_only=True)["state_dict"]
    assert (during["network.quantizer.inner.codebook"].numpy() == before.code_vectors()).all()
    trained = during["network.refiner.move.weight"]
    assert not torch.allclose(trained, before.network.refiner.move.weight, atol=1e-3), "the refiner learns"
    report = json.loads((tuned / "frozen" / "report.json").read_text())
    assert all(result["codes_kept"] == 1 for result in report["sets"])


def test_adapted_codes_start_where_they_were(base, tuned, structures):
    before = protok.load(base)
    adapted = protok.load(tuned / "adapted" / "model")
    new = protok.load(tuned / "new" / "model")
    assert adapted.codebook.startswith("adapted@") and new.codebook.startswith("new@")
    # As trained: what did not hold on what was held out is not kept.
    far = {}
    for mode in ("adapted", "new"):
        during = torch.load(tuned / mode / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        codes = during["network.quantizer.inner.codebook"].numpy()
        far[mode] = np.abs(codes - before.code_vectors()).mean()
    assert 0 < far["adapted"] < 0.5 * far["new"]
    with pytest.raises(protok.ProtokError, match="the decoder of adapted@"):
        adapted.decode(before.encode(protok.read(structures / "mine0.pdb")))
    hardness = [r["hardness"] for r in read_metrics(tuned / "new" / "metrics.csv") if "loss" in r]
    assert hardness[-1] == 1


def test_a_report_says_which_letters_correspond(base, tuned, structures):
    before, after = protok.load(base), protok.load(tuned / "adapted" / "model")
    report = json.loads((tuned / "adapted" / "report.json").read_text())
    held = [
        protok.read(structures / f"{c['name'].rpartition('_')[0]}.pdb") for c in report["sets"][0]["chains"]
    ]
    pairs = Counter()
    for chain in held:
        pairs.update(zip(*(model.encode(chain).ids.tolist() for model in (before, after)), strict=True))
    pairs = Counter({pair: n for pair, n in pairs.items() if min(pair) >= 0})
    with (tuned / "adapted" / "letters.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    written = {
        (int(r["before"]), new): int(r[str(new)]) for r in rows for new in range(32) if int(r[str(new)])
    }
    assert written == pairs and len(rows) == before.size
    letters, (old, new) = report["letters"], pairs.most_common(1)[0][0]
    assert letters["best"][old] == int(rows[old]["best"]) == new
    assert letters["share"][old] == pytest.approx(pairs[old, new] / letters["residues"][old], abs=1e-4)
    assert letters["best"][next(i for i, n in enumerate(letters["residues"]) if not n)] == -1
    assert letters["same"] == report["sets"][0]["codes_kept"]
    page = (tuned / "adapted" / "report.md").read_text()
    assert f"{old} → {new} ({letters['share'][old]:.0%} of {letters['residues'][old]})" in page
    assert (tuned / "new" / "letters.csv").exists()
    assert not (tuned / "frozen" / "letters.csv").exists(), "they are the same"


def test_a_tuned_model_goes_to_the_hub_with_its_card(base, tuned, tmp_path):
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    for mode in finetune.CODEBOOKS:
        folder = tuned / mode
        model, report = protok.load(folder / "model"), json.loads((folder / "report.json").read_text())
        # What is uploaded is what `save_pretrained` writes.
        card = hub.ModelCard.load(model.save_pretrained(tmp_path / mode) / "README.md")
        assert f"# {model.codebook}\n" in card.content and f"`{protok.load(base).codebook}`" in card.content
        assert f"- **Codebook**: {mode}. " in card.content and report["train_sha256"] in card.content
        row = report["sets"][0]["rmsd"]
        assert f"| held out (1) | CA RMSD, Å | {row['before']:.3f} | {row['after']:.3f} |" in card.content
        results = {(r.dataset_name, r.metric_type): r.metric_value for r in card.data.eval_results}
        assert results["held out", "rmsd"] == round(row["after"], 3)
        assert ("letter before" in card.content) == (mode != "frozen")
        written = card.content + (tmp_path / mode / "config.json").read_text()
        assert str(tuned.parent) not in written, "no path of this machine"
    scratch = hub.ModelCard.load(base / "README.md")
    assert scratch.data.library_name == "protok" and "**Validation**: rmsd_4 " in scratch.content
    assert scratch.data.base_model is None
    made = json.loads((tuned / "adapted" / "model" / "config.json").read_text())["provenance"]
    made["recipe"]["finetune"]["init"] = "hf:someone/base@v1"
    text = card_of("mine@0", 32, made, json.loads((tuned / "adapted" / "report.json").read_text()))
    assert hub.ModelCard(text).data.base_model == "someone/base"


def test_a_run_says_what_it_held_out(tuned):
    with (tuned / "frozen" / "split.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    sides = {side: [r["id"] for r in rows if r["split"] == side] for side in ("train", "test")}
    assert len(rows) == 8 and len(sides["train"]) == 6 and len(sides["test"]) == 1
    report = json.loads((tuned / "frozen" / "report.json").read_text())
    held, original = report["sets"]
    assert [chain["name"] for chain in held["chains"]] == sides["test"]
    assert original["name"] == "bundled" and len(original["chains"]) == 2
    bundled = {path.name.removesuffix(".pdb.gz") for path in BUNDLED.glob("*.pdb.gz")}
    assert {chain["name"].rpartition("_")[0] for chain in original["chains"]} < bundled
    for result in report["sets"]:
        for key in ("rmsd", "tm_score", "lddt"):
            each = [[chain[when][key] for chain in result["chains"]] for when in ("before", "after")]
            assert result[key]["before"] == pytest.approx(np.mean(each[0]), abs=2e-4)
            assert result[key]["after"] == pytest.approx(np.mean(each[1]), abs=2e-4)
    page = (tuned / "frozen" / "report.md").read_text()
    assert f"| held out (1) | CA RMSD, Å | {held['rmsd']['before']:.3f} |" in page
    for name in ("report.svg", "training.svg"):
        assert ElementTree.parse(tuned / "frozen" / name).getroot().tag.endswith("svg")


def test_the_best_weights_are_kept_and_the_run_stops(base, structures, tmp_path, monkeypatch):
    measured = iter([9.0, 5.0, 3.0, 4.0, 2.995, 4.0, 2.99, 2.99])
    weights = {}

    def measure(self):
        self.measuring = False
        weights[self.global_step] = self.network.refiner.state_dict()
        weights[self.global_step] = {k: v.clone() for k, v in weights[self.global_step].items()}
        return {"valid_rmsd": next(measured)}

    monkeypatch.setattr(module.Training, "measure", measure)
    out = tmp_path / "run"
    longer = TUNE | {"optim.steps": 40, "valid.every": 4, "finetune.chains": 1, "optim.lr": 1e-3}
    longer |= {"finetune.weight_interpolation": 0.25}
    model = run.run(structures=structures, init=base, out=out, overrides=longer)
    # 9 before training, 5 after 4 steps, 3 after 8; 2.995 is best, but no progress to wait for.
    rows = [row for row in read_metrics(out / "metrics.csv") if "valid_rmsd" in row]
    assert [row["step"] for row in rows] == [0, 4, 8, 12, 16, 20]
    provenance = json.loads((model / "config.json").read_text())["provenance"]
    assert (provenance["steps"], provenance["best_step"]) == (20, 16)
    kept = protok.load(model).network.refiner.state_dict()
    first = weights[0]
    there = {k: first[k] + 0.25 * (weights[16][k] - first[k]) for k in first}
    assert all((kept[k] - there[k]).abs().max() < 1e-3 for k in kept)
    assert max((weights[16][k] - there[k]).abs().max() for k in kept) > 2e-3

    # Resumed, it does not train on, and it keeps the same weights.
    model = run.run(structures=structures, init=base, out=out, overrides=longer, resume=True)
    again = json.loads((model / "config.json").read_text())["provenance"]
    assert (again["steps"], again["best_step"]) == (20, 16)
    again = protok.load(model).network.refiner.state_dict()
    assert all(torch.equal(kept[k], again[k]) for k in kept)


@pytest.mark.parametrize("mode", ["frozen", "adapted"])
def test_a_model_that_only_gets_worse_stays_as_it_was(base, structures, tmp_path, monkeypatch, mode):
    measured = iter([2.0, 5.0, 4.0])
    monkeypatch.setattr(module.Training, "measure", lambda self: {"valid_rmsd": next(measured)})
    settings = TUNE | {"optim.steps": 8, "valid.every": 4, "finetune.chains": 1, "finetune.codebook": mode}
    model = run.run(structures=structures, init=base, out=tmp_path / "run", overrides=settings)
    assert "weights of step 0" in (model / "README.md").read_text()
    provenance = json.loads((model / "config.json").read_text())["provenance"]
    assert (provenance["steps"], provenance["best_step"]) == (8, 0)
    assert provenance["validation"] == {"valid_rmsd": 2.0}
    after, before = (protok.load(folder) for folder in (model, base))
    mine, theirs = (tok.network.state_dict() for tok in (after, before))
    assert all(torch.equal(mine[k], theirs[k]) for k in theirs if not k.endswith(TRANSIENT))
    digits = before.codebook.partition("@")[2]
    assert after.codebook == (before.codebook if mode == "frozen" else f"run@{digits}")


def test_defaults_suit_few_and_many_chains(base):
    start = protok.load(base)
    start.provenance["recipe"]["data"]["curriculum"] = [[0.0, 64], [0.5, 768]]
    few = finetune.defaults(start, "frozen", np.full(20, 150))
    many = finetune.defaults(start, "frozen", np.full(20_000, 900))
    assert few["optim"]["steps"] == 120 and many["optim"]["steps"] == 6000
    assert few["optim"]["lr"] == 1e-4 and 2e-4 < many["optim"]["lr"] < 1e-3
    assert few["data"]["curriculum"] == [[0.0, 150]] and many["data"]["curriculum"] == [[0.0, 768]]
    for settings in (few, many):
        plan = read_recipe(None, {"data.train": "x"}, settings)
        assert plan.valid.every <= plan.optim.steps / 5
        assert plan.model.encoder == start.network.config.encoder
        assert (plan.optim.coordinate_noise, plan.optim.consistency_weight) == (0.2, 20.0)
        assert plan.optim.spacing_odds == (0.5, 0.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"finetune.codebook": "thawed"}, "'thawed'.*frozen, adapted, new"),
        ({"model.encoder.hidden": 32}, "another form"),
        ({"model.quantizer.size": 64}, "another form"),
        ({"model.steps.width": 32}, "another form"),
        ({"finetune.weight_interpolation": 0.0}, "weight_interpolation = 0.0 with frozen codes"),
        (
            {"finetune.weight_interpolation": 0.5, "finetune.codebook": "new"},
            "weight_interpolation = 0.5 with new codes",
        ),
        ({"model.name": "mine"}, "model.name = 'mine'.*another --codebook"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(base, structures, tmp_path, changes, message):
    with pytest.raises(RecipeError, match=message):
        run.run(structures=structures, init=base, out=tmp_path / "x", overrides=TUNE | changes)


def test_a_model_without_letters_is_refused(tmp_path):
    config = replace(SMALL, quantizer=replace(SMALL.quantizer, kind="none"))
    start = ShapeTokenizer(ShapeNetwork(config).eval())
    settings = finetune.defaults(start, "adapted", np.full(20, 30))
    plan = read_recipe(None, {"finetune.init": "x", "optim.spacing_odds": [0.5, 0.5]}, settings)
    with pytest.raises(RecipeError, match="small has no letters.*train it from scratch"):
        finetune.check(plan, start)


def test_a_codebook_without_a_model_is_refused(structures, tmp_path):
    with pytest.raises(RecipeError, match="finetune.codebook.*--init"):
        run.run(structures=structures, out=tmp_path / "x", overrides={"finetune.codebook": "new"})


def test_one_bad_file_is_a_row_and_the_exit_code(base, structures, tmp_path, capsys):
    folder = tmp_path / "pdbs"
    shutil.copytree(structures, folder)
    (folder / "bad.pdb").write_text("ATOM  nonsense\n" * 3)
    wide = protok.read(folder / "mine0.pdb")
    wide.coords[-1] += 900
    protok.write(wide, folder / "wide.pdb")
    settings = [f"--set={k}={json.dumps(v)}" for k, v in (TUNE | {"optim.steps": 2}).items()]
    command = ["train", "--init", base, "--structures", folder, "--out", tmp_path / "run", *settings]
    code = main.main([str(part) for part in [*command, "--codebook", "adapted"]])
    message = capsys.readouterr().err
    assert code == 1
    assert "2 inputs failed, listed in " in message and "report.md" in message
    lines = message.splitlines()
    assert "step 0 of 2" in lines and any(re.match("step 2 of 2, .*valid_rmsd", line) for line in lines)
    table = (tmp_path / "run" / "train.errors.tsv").read_text().splitlines()
    assert len(table) == 3 and "bad.pdb" in table[1] and "wider than 650" in table[2]
    assert protok.load(tmp_path / "run" / "model").codebook.startswith("run@")
    assert "bad.pdb" in (tmp_path / "run" / "report.md").read_text()
    # The whole again, without its settings: nothing is left to do, the row is still there.
    assert main.main(["train", "--out", str(tmp_path / "run"), "--resume", "-q"]) == 1
    assert "step" not in capsys.readouterr().err
    (folder / "bad.pdb").write_text("ATOM  other nonsense\n")
    protok.write(wide[:20], folder / "wide.pdb")
    assert main.main(["train", "--out", str(tmp_path / "run"), "--resume"]) == 2
    assert "data have changed since the run began" in capsys.readouterr().err


def test_a_forgetting_set_of_ones_own(base, structures, tmp_path):
    other = write_structures(tmp_path / "other", [30, 34], "other{}")
    short = TUNE | {"optim.steps": 2, "finetune.forgetting": str(other)}
    run.run(structures=structures, init=base, out=tmp_path / "run", overrides=short)
    original = json.loads((tmp_path / "run" / "report.json").read_text())["sets"][1]
    assert original["name"] == "elsewhere" and original["about"] == str(other)
    assert [chain["name"] for chain in original["chains"]] == ["other0_A", "other1_A"]


def test_a_model_is_as_good_as_itself(base, structures):
    model = protok.load(base)
    chains = [protok.read(structures / f"mine{n}.pdb") for n in range(2)]
    (result,) = compare_models(model, model, [ChainSet("a", "b", chains), ChainSet("none", "", [])])
    assert result["codes_kept"] == 1 and result["codes_used"][0] == result["codes_used"][1] > 0
    assert result["rmsd"]["change"] == 0 and result["rmsd"]["improved"] == 0


def test_sets_of_which_no_chain_is_short_enough_are_named(base, structures, tmp_path):
    shutil.copytree(base, tmp_path / "model")
    start = protok.load(base)
    recipe = start.provenance["recipe"]
    recipe["finetune"]["longest"] = recipe["valid"]["longest"] = 2
    plan = read_recipe(None, defaults=recipe)
    store = open_store(structures, tmp_path / "store.parquet")
    report_tuning(start, plan, tmp_path, Splits(store, store), start.provenance)
    page = (tmp_path / "report.md").read_text()
    assert "held out: no chain is short enough" in page
    assert "bundled: no chain is short enough" in page
    assert not (tmp_path / "report.svg").exists()


def test_changes_come_with_their_uncertainty():
    rng = np.random.default_rng(0)
    before = rng.uniform(3, 6, 40)
    better = change(before, before - rng.normal(1.0, 0.5, 40), more_is_better=False)
    assert better["change"] == pytest.approx(-1, abs=0.2) and better["improved"] > 35
    low, high = better["interval"]
    assert low < better["change"] < high < 0 and 0.2 < high - low < 0.5
    same = change(before, before + rng.normal(0, 0.5, 40), more_is_better=True)
    assert same["interval"][0] < 0 < same["interval"][1]
    assert change(before[:2], before[:2] + 1, True)["interval"] == [None, None]


def test_a_report_reads():
    row = {"before": 5.0, "after": 4.0, "change": -1.0, "interval": [-1.5, -0.5], "improved": 3}
    result = {
        "name": "held out",
        "about": "chains",
        "chains": [{}] * 4,
        "rmsd": row,
        "tm_score": row | {"interval": [None, None]},
        "lddt": row,
        "codes_kept": 0.5,
        "codes_used": [10, 12],
    }
    report = {
        "before": "a@1",
        "after": "b@2",
        "codebook": "adapted",
        "train_chains": 20,
        "steps": 30,
        "best_step": 20,
        "sets": [result],
        "notes": ["5 clusters"],
    }
    page = markdown(report)
    assert "| held out (4) | CA RMSD, Å | 5.000 | 4.000 | -1.000 | -1.500 to -0.500 | 3 |" in page
    assert "Codes unchanged: 50.0%; codes used: 10 → 12." in page and "- 5 clusters" in page
    assert "## Conclusion" in page and "CA RMSD improved, lDDT got worse." in page


def in_words(held_out: list, elsewhere: list, **report) -> str:
    """The conclusion of intervals of RMSD, TM-score and lDDT on two sets."""
    sets = [
        {"name": name, "chains": [{}] * 9}
        | {key: {"interval": interval} for key, interval in zip(MEASURES, intervals, strict=True)}
        for name, intervals in (("held out", held_out), ("bundled", elsewhere))
    ]
    return "\n".join(conclusion({"before": "a@1", "after": "a@1", "best_step": 5, "sets": sets} | report))


def test_a_report_ends_with_its_conclusion_in_words():
    gain = [[-0.4, -0.1], [0.001, 0.02], [-0.01, 0.01]]
    loss = [[0.1, 0.4], [-0.01, 0.01], [-0.02, -0.01]]
    none, few = [[-1, 1]] * 3, [[None, None]] * 3
    text = in_words(gain, none)
    assert "- **held out** (9 chains): CA RMSD and TM-score improved." in text
    assert "- **bundled** (9 chains): no change that these chains could show." in text
    assert "Take the model after: it gained on structures like yours" in text
    assert text.endswith("Tokens of one decode with the other.")
    text = in_words(gain, loss, after="b@2")
    assert "bundled** (9 chains): CA RMSD and lDDT got worse." in text
    assert "and the one before for others (bundled). Tokens have to be encoded anew" in text
    for held_out in (none, few, loss):
        assert "Nothing measured here speaks for the model after" in in_words(held_out, none)
    assert "held out** (9 chains): too few chains to tell." in in_words(few, gain)
    assert "depends on the measure" in in_words([[-0.4, -0.1], [-0.02, -0.01], [0, 0]], none)
    assert in_words(gain, none, best_step=0).startswith("No step was better on held-out chains")


def test_warnings_of_the_split_reach_the_user(base, tmp_path):
    chains = tmp_path / "pdbs"
    chains.mkdir()
    chain = protok.read(write_structures(tmp_path / "one", [30]) / "s00.pdb")
    for n in range(6):
        protok.write(chain, chains / f"copy{n}.pdb")
    short = TUNE | {"optim.steps": 1, "finetune.chains": 1}
    with pytest.warns(UserWarning, match="all 6 chains are one cluster.*at random"):
        run.run(structures=chains, init=base, out=tmp_path / "run", overrides=short)


def test_the_original_validation_set_is_found_by_its_digest(base, structures, tmp_path):
    start = protok.load(base)
    store = open_store(structures, tmp_path / "valid.parquet")
    start.provenance["valid_sha256"] = store.digest
    asked = forgetting_set(str(tmp_path / "valid.parquet"), start, tmp_path, 3, 100)
    assert asked.name == "original validation" and len(asked.chains) == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        group = forgetting_set("", start, tmp_path, 99, 100)
    assert group.name == "bundled" and len(group.chains) > 4
    assert max(len(chain) for chain in group.chains) <= 100
