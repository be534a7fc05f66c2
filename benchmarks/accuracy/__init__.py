"""How well codes rebuild chains."""
