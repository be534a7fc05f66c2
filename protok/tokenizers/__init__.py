"""What encodes and decodes: learned tokenizers, alphabets with rules, and their names."""
