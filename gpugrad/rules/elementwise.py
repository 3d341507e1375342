"""Elementwise operations: one line each, the partial derivatives as formulas over m, y and the inputs."""
import operator

from gpugrad.graph.primitive import elementwise

elementwise("add", 1, 1)
elementwise("subtract", 1, -1)
elementwise("multiply", lambda m, y, a, b: b, lambda m, y, a, b: a)
elementwise("negative", -1)
elementwise("exp", lambda m, y, x: y)
elementwise("sin", lambda m, y, x: m.cos(x))
elementwise("cos", lambda m, y, x: -m.sin(x))
elementwise("tanh", lambda m, y, x: 1 - y * y)
elementwise("power", lambda m, y, a, b: b * a ** (b - 1), lambda m, y, a, b: y * m.log(a), impl=lambda xp: operator.pow)
elementwise("log", lambda m, y, x: 1 / x)
elementwise("divide", lambda m, y, a, b: 1 / b, lambda m, y, a, b: -y / b)
