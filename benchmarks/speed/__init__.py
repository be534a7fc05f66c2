"""What reading, encoding and decoding cost."""
