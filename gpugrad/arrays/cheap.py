"""What NumPy can do sooner than its own function of that name. Each takes the array module and returns a function."""
import math

import numpy

#: Up to this many elements NumPy fills a new array sooner than `broadcast_to` makes a view.
SMALL = 8192


def spread(xp):
    """broadcast_to(x, shape). NumPy's takes 3 us however small the array; CuPy's starts no kernel."""
    if xp is not numpy:
        return lambda x, shape: xp.broadcast_to(x, shape)

    def run(x, shape):
        if math.prod(shape) > SMALL:
            return numpy.broadcast_to(x, shape)
        y = numpy.empty(shape, x.dtype)
        if x.ndim:
            y[...] = x
        else:
            y.fill(x)
        return y
    return run
