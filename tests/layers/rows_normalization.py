"""Rows for the normalization layers."""

from layers.cases import Case

BOTH = (False, True)

ROWS = [
    Case("BatchNormalization", {}, (4, 3), phases=BOTH),
    Case(
        "BatchNormalization",
        {"axis": 1, "momentum": 0.9, "epsilon": 0.01},
        (4, 3, 5),
        "second axis",
        phases=BOTH,
    ),
    Case("BatchNormalization", {"scale": False}, (2, 4, 4, 3), "images, no scale", phases=BOTH),
    Case(
        "BatchNormalization", {"center": False, "gamma_regularizer": "l2"}, (4, 3), "no center", phases=BOTH
    ),
    Case("BatchNormalization", {"trainable": False}, (4, 3), "frozen", phases=BOTH),
    Case(
        "BatchNormalization",
        {"renorm": True, "renorm_clipping": {"rmax": 1.2, "rmin": 0.8, "dmax": 0.1}},
        (4, 3),
        "renorm",
        phases=BOTH,
        tolerance=1e-4,
    ),
    Case("LayerNormalization", {}, (2, 4, 3)),
    Case("LayerNormalization", {"axis": [1, 2], "epsilon": 1e-5}, (2, 4, 3), "two axes"),
    Case("LayerNormalization", {"axis": 1, "center": False}, (2, 4, 3), "second axis"),
    Case("GroupNormalization", {"groups": 3}, (2, 4, 6)),
    Case("GroupNormalization", {"groups": 2, "axis": 1}, (2, 4, 3), "second axis"),
    Case("GroupNormalization", {"groups": 1, "scale": False}, (2, 4, 4, 3), "one group"),
    Case("RMSNormalization", {}, (2, 4, 3)),
    Case("UnitNormalization", {}, (2, 4, 3)),
    Case("UnitNormalization", {"axis": [1, 2]}, (2, 4, 3), "two axes"),
    Case("SpectralNormalization", lambda library: {"layer": library.layers.Dense(4, name="inner")}, (2, 3)),
]
