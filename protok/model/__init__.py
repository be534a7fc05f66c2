"""The network of a tokenizer: encoder, decoder, and the loss of both around a quantizer."""
