"""How the environment letters of protok-1 are trained: relatives, targets, the training itself."""
