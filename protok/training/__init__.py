"""Train and fine-tune a tokenizer of proteins."""
