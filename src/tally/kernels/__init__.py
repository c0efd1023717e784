"""Convolution, pooling and batch normalisation, formulated for each platform; chosen when a program is lowered."""
