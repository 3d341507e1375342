"""Elementwise operations."""
from rows import Row, nonzero, positive

ROWS = [
    Row("add", complex_ok=True),
    Row("subtract", complex_ok=True),
    Row("multiply", complex_ok=True),
    Row("divide", sample=nonzero, complex_ok=True),
    Row("negative", complex_ok=True),
    Row("exp", complex_ok=True),
    Row("sin", complex_ok=True),
    Row("cos", complex_ok=True),
    Row("tanh", complex_ok=True),
    Row("log", sample=positive, complex_ok=True),
    Row("power", sample=positive, complex_ok=True),
]
