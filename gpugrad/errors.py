"""Every exception that gpugrad raises, one class per cause.

A message reads `<op>: <what was expected>, got <live values>. <next step>`. Each class is also the builtin that a NumPy
user would have expected, so `except ValueError` keeps working.
"""


class GpugradError(Exception):
    """The root of every gpugrad exception."""


class ShapeError(GpugradError, ValueError):
    """Shapes do not fit the operation or each other."""


class AxisError(ShapeError, IndexError):
    """An axis that the array does not have."""


class ArgumentError(GpugradError, ValueError):
    """An argument outside what the function accepts."""


class IndexingError(GpugradError, IndexError):
    """An index outside the array, or of a kind that cannot index."""


class DtypeError(GpugradError, TypeError):
    """A dtype, or a Python type, that the operation cannot work with."""


class ConversionError(GpugradError, TypeError):
    """A Tensor that needs a gradient was about to become a bare array or number, which would drop its graph."""


class DeviceError(GpugradError, RuntimeError):
    """A device that is not there, or arrays that live on different devices."""


class GraphError(GpugradError, RuntimeError):
    """The graph cannot answer: it was freed, never recorded, or a saved array has changed since."""


class NoRuleError(GpugradError, NotImplementedError):
    """An operation without the derivative rule that was asked for."""


class AnomalyError(GpugradError, FloatingPointError):
    """`detect_anomaly` found the first NaN."""


class TraceError(GpugradError, TypeError):
    """A compiled function asked for a value that is known only when its program runs."""


class FileFormatError(GpugradError, ValueError):
    """A file that is not what it should be, or could run code if it were read."""


class MissingExtraError(GpugradError, ImportError):
    """An optional library is not installed; the message names the extra that brings it."""


def require(op: str, name: str, value: object, ok: bool, what: str) -> None:
    """ArgumentError unless the value of an option is ok: `what` says what was expected of it, as "at least 0"."""
    if not ok:
        raise ArgumentError(f"{op}: expected {name} {what}, got {value!r}. Correct {name}.")
