"""Tests of the layers: a row in a `rows_*.py` buys a layer the whole contract of `test_contract.py`."""
