"""Structures to label."""

from dataclasses import replace

from protok.testing import random_backbone


def chains(n, length=40):
    return [replace(random_backbone(length, seed), name=f"x{seed}_A") for seed in range(n)]
