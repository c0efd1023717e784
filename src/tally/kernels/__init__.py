"""Convolution, pooling, batch normalisation and attention per platform, chosen when a program is lowered."""
