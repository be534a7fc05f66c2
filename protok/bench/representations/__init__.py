"""What is measured: the codes or vectors of tokenizers, of other models, of baselines."""
