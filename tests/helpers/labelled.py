"""Structures to label."""

from dataclasses import replace

from protok.testing import random_backbone


def chains(n, length=40):
    return [replace(random_backbone(length, seed), name=f"x{seed}_A") for seed in range(n)]


def csv_of(path, head, rows):
    path.write_text("\n".join([head, *rows]) + "\n")
    return path


def labels(path, label="01" * 20):
    """A table of twelve chains in three splits."""
    split = ["train"] * 8 + ["valid"] * 2 + ["test"] * 2
    return csv_of(path, "id,label,split", [f"x{i}_A,{label},{split[i]}" for i in range(12)])
