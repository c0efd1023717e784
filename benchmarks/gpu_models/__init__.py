"""The models of the GPU benchmark, each written once for every contestant, and what runs and measures them."""
