"""CuPy's memory pools and allocators on the simulated device: rounding, reuse, splitting, limits, pointers."""

import ctypes
import threading

import numpy as np
import pytest

from gpugrad.cudasim import OutOfBounds, Uninitialised, cupy


@pytest.fixture
def pool():
    made = cupy.cuda.MemoryPool()
    with cupy.cuda.using_allocator(made.malloc):
        yield made


def test_sizes_are_rounded_to_512_bytes(pool):
    arrays = [cupy.empty(n, "uint8") for n in (1, 512, 513)]
    assert pool.used_bytes() == pool.total_bytes() == 512 + 512 + 1024
    assert cupy.empty((0, 3)).data.ptr == 0 and pool.used_bytes() == 2048
    assert all(x.data.ptr % 512 == 0 for x in arrays)
    del arrays
    assert (pool.used_bytes(), pool.free_bytes(), pool.n_free_blocks()) == (0, 2048, 3)


def test_free_blocks_are_used_again_and_only_misses_reach_the_driver(pool):
    with cupy.recording() as log:
        x = cupy.ones(1000)
        for _ in range(5):
            x = x + 1                                                          # two blocks take turns
    assert log.mallocs == 2 and pool.total_bytes() == 2 * 8192 and pool.used_bytes() == 8192


def test_the_smallest_block_that_fits_is_split_and_joined_again(pool):
    large, small = pool.malloc(4096), pool.malloc(2048)
    del large, small
    piece = pool.malloc(512)
    assert (pool.total_bytes(), pool.used_bytes(), pool.n_free_blocks()) == (6144, 512, 2)
    pool.free_all_blocks()
    assert pool.total_bytes() == 2048                                          # a split block stays
    other = pool.malloc(512)
    del piece, other
    assert pool.n_free_blocks() == 1 and pool.free_bytes() == 2048
    pool.free_all_blocks()
    assert pool.total_bytes() == 0


def test_each_stream_has_blocks_of_its_own(pool):
    with cupy.cuda.Stream():
        x = cupy.ones(64)
    del x
    with cupy.recording() as log:
        cupy.ones(64)
    assert log.mallocs == 1


def test_views_keep_a_block(pool):
    x = cupy.ones((4, 4))
    part = x[1:, ::2].T
    del x
    assert pool.used_bytes() == 512 and (part.get() == 1).all()
    del part
    assert pool.used_bytes() == 0


def test_limits(pool):
    pool.set_limit(size=1024)
    held = cupy.ones(64)
    with pytest.raises(cupy.cuda.memory.OutOfMemoryError, match=r"allocating 1,024 bytes \(allocated so far: 512 bytes, limit"):
        cupy.ones(100)
    pool.set_limit(fraction=0.5)
    assert pool.get_limit() == 40 << 30 and held.nbytes == 512
    with pytest.raises(ValueError, match="range"):
        pool.set_limit(fraction=2)
    with pytest.raises(ValueError, match="one time"):
        pool.set_limit(size=1, fraction=0.5)
    pool.set_limit()
    assert pool.get_limit() == 0


def test_the_device_has_an_end():
    before, total = cupy.cuda.runtime.memGetInfo()
    with pytest.raises(MemoryError, match="Out of memory"):
        cupy.cuda.MemoryPool().malloc(total + 1)
    held = cupy.cuda.alloc(1 << 30) if before > 1 << 30 else None
    free, _ = cupy.cuda.runtime.memGetInfo()
    assert held is not None and free <= before


def test_devices_have_pools_of_their_own(pool):
    with cupy.cuda.Device(1):
        x = cupy.ones(3)
        assert pool.used_bytes() == 512
    assert pool.used_bytes() == 0
    with cupy.cuda.Device(1):
        assert (x + 1).device.id == 1
        del x
        assert pool.used_bytes() == 0


def test_allocators_are_a_threads_and_end_with_their_block():
    default, found = cupy.cuda.get_allocator(), []
    mine = cupy.cuda.MemoryPool()
    with cupy.cuda.using_allocator(mine.malloc):
        thread = threading.Thread(target=lambda: found.append(cupy.cuda.get_allocator()))
        thread.start()
        thread.join()
        assert cupy.cuda.get_allocator() == mine.malloc
        with pytest.raises(ValueError, match="global allocator"):
            cupy.cuda.set_allocator()
    assert cupy.cuda.get_allocator() == default == found[0] == cupy.get_default_memory_pool().malloc


def test_set_allocator_none_takes_every_array_from_the_driver():
    cupy.cuda.set_allocator()
    try:
        with cupy.recording() as log:
            for _ in range(3):
                cupy.ones(3)
        assert log.mallocs == 3
    finally:
        cupy.cuda.set_allocator(cupy.get_default_memory_pool().malloc)


def test_arrays_over_pointers_share_memory(pool):
    arena = pool.malloc(4096)
    x = cupy.ndarray((4, 4), "float32", memptr=arena + 512)
    y = cupy.ndarray((2, 4), "float32", memptr=arena + 512 + 32, strides=(16, 4))
    x[...] = 1
    y[...] = 5
    assert x.get().sum(1).tolist() == [4, 4, 20, 20] and pool.used_bytes() == 4096
    assert (x.data.ptr, y.data.ptr) == (arena.ptr + 512, arena.ptr + 544) and x.data.mem is arena.mem
    del arena, y
    assert pool.used_bytes() == 4096 and x[0, 0] == 1
    del x
    assert pool.used_bytes() == 0


def test_an_allocator_may_cut_arrays_from_one_arena():
    arena, offset = cupy.cuda.alloc(1 << 16), 0

    def bump(size):
        nonlocal offset
        found, offset = arena + offset, offset + -(-size // 512) * 512
        return found
    with cupy.cuda.using_allocator(bump):
        x = cupy.asarray(np.arange(5.0))
        y = x * 2
        z = cupy.asfortranarray(cupy.ones((3, 2)) * 3)
    assert [a.data.ptr - arena.ptr for a in (x, y)] == [0, 512] and offset >= 3 * 512
    assert y.get().tolist() == [0, 2, 4, 6, 8] and z.flags.f_contiguous and (z.get() == 3).all()
    with pytest.raises(OutOfBounds, match="its end"), cupy.cuda.using_allocator(lambda size: arena + (1 << 16)):
        cupy.ones(3)


def test_pointers_copy_and_fill():
    a, b = cupy.asarray(np.arange(4, dtype="int32")), cupy.zeros(4, "int32")
    b.data.copy_from_device(a.data + 4, 8)
    (b.data + 8).memset(255, 4)
    assert b.get().tolist() == [1, 2, -1, 0]
    host = (ctypes.c_int32 * 4)()
    a.data.copy_to_host(ctypes.c_void_p(ctypes.addressof(host)), 16)
    host[0] = 9
    b.data.copy_from_host(ctypes.addressof(host), 16)
    assert list(host) == b.get().tolist() == [9, 1, 2, 3]
    assert int(a.data + 4) == a.data.ptr + 4 == (a.data + 8 - 4).ptr and a.data.device_id == 0


def test_reused_blocks_count_as_never_written_and_have_ends(pool):
    kernel = cupy.RawModule(code='extern "C" __global__ void get(const float* x, float* y) { y[0] = x[threadIdx.x]; }')
    get = kernel.get_function("get")
    cupy.ones(8, "float32")
    x, y = cupy.empty(8, "float32"), cupy.empty(1, "float32")
    assert pool.total_bytes() == 1024
    with pytest.raises(Uninitialised):
        get((1,), (1,), (x, y))
    x.fill(3)
    with pytest.raises(OutOfBounds):
        get((1,), (9,), (x, y))
