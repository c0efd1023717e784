"""Rows for the layers of noise, which hand on their input outside training."""

from layers.cases import Case

ROWS = [
    Case("Dropout", {"rate": 0.5, "seed": 1}),
    Case("Dropout", {"rate": 0.0}, note="never", phases=(False, True)),
    Case("SpatialDropout1D", {"rate": 0.5}, (2, 4, 3)),
    Case("SpatialDropout2D", {"rate": 0.5}, (2, 4, 4, 3)),
    Case("SpatialDropout3D", {"rate": 0.5}, (2, 2, 2, 2, 3)),
    Case("GaussianNoise", {"stddev": 0.5}),
    Case("GaussianDropout", {"rate": 0.5}),
    Case("AlphaDropout", {"rate": 0.5}),
    Case("ActivityRegularization", {"l1": 0.1, "l2": 0.2}),
]
