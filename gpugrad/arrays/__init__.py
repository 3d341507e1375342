"""Arrays and devices: the only place that imports cupy."""
from gpugrad.arrays.devices import (
    CPU,
    Device,
    Follower,
    at_home,
    copied,
    default_device,
    device_of,
    empty_beside,
    has_several,
    move,
    new_array,
    number_on,
    plain,
    short,
    synchronize,
)
from gpugrad.arrays.memory import LAST, changed_since, exclusive, held_only, mark_changed
from gpugrad.arrays.modules import cuda_problem, cuda_usable, has_kernels, is_array, module_of, module_of_type
from gpugrad.arrays.one import is_one, one

__all__ = ["CPU", "LAST", "Device", "Follower", "at_home", "changed_since", "copied", "cuda_problem", "cuda_usable",
           "default_device", "device_of", "empty_beside", "exclusive", "has_kernels", "has_several", "held_only", "is_array",
           "is_one", "mark_changed", "module_of", "module_of_type", "move", "new_array", "number_on", "one", "plain", "short",
           "synchronize"]
