"""Recipes of the shipped models, and what makes their inputs."""
