"""Checkpoints: what is saved comes back, damaged files are errors, nothing in a file is ever run, and a save is whole or not."""
from __future__ import annotations

import io
import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections import namedtuple
from dataclasses import dataclass

import numpy as np
import pytest
from on_device import xp

import gpugrad as gg
from gpugrad.errors import ArgumentError, DtypeError, FileFormatError, ShapeError

FORMATS = [".npz", ".safetensors"]
Pair = namedtuple("Pair", "w b")


@dataclass
class Layer:
    w: object
    b: object


@pytest.fixture(params=FORMATS)
def path(request, tmp_path):
    return tmp_path / f"file{request.param}"


def same(a, b):
    """Equal trees, arrays by dtype, shape and bits."""
    if isinstance(a, gg.Tensor):
        a = a.detach().numpy()
    if isinstance(b, gg.Tensor):
        b = b.detach().numpy()
    if isinstance(a, np.ndarray):
        return type(b) is np.ndarray and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or (a != a and b != b))


def tree():
    rng = np.random.default_rng(0)
    return {
        "layers": [{"w": gg.tensor(xp.asarray(rng.normal(size=(3, 4)).astype("f4")), requires_grad=True),
                    "b": gg.tensor(xp.asarray(rng.normal(size=4)))},
                   ({"mask": np.array([True, False])}, [])],
        "epoch": 3, "rate": 0.1, "name": "résumé", "nothing": None, "flag": True, "inf": float("inf"), "nan": float("nan"),
        "z": 1 - 2j, "scalar": np.float32(2.5), "empty": np.zeros((0, 3)), "big": 2**70, "fortran": np.asfortranarray(np.eye(3)),
        "a.b": np.arange(3), "a": {"b": np.arange(4)}, "../../etc/passwd": np.ones(2),
    }


def test_a_tree_comes_back_as_it_was(path, device):
    before = tree()
    gg.save(path, before)
    after = gg.load(path)
    before["scalar"] = np.asarray(before["scalar"])
    assert same(before, after), after
    assert not after["layers"][0]["w"].requires_grad
    assert after["layers"][0]["w"].device == after["fortran"].device == device


@pytest.mark.parametrize("dtype", ["?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", "c8", ">f4", ">i8"])
def test_every_dtype_comes_back(path, dtype, device):
    x = (np.arange(6).reshape(2, 3) - 2.5).astype("f8").astype(np.dtype(dtype).newbyteorder("="))
    gg.save(path, {"x": x.astype(dtype)})
    found = gg.load(path)["x"]
    assert found.device == device and same(found, x)


def test_complex128_needs_npz(tmp_path):
    x = np.array([1 + 2j, np.nan])
    gg.save(tmp_path / "x.npz", x)
    assert same(gg.load(tmp_path / "x.npz"), x)
    with pytest.raises(DtypeError, match=r"complex128 at .value.\. Save as \.npz"):
        gg.save(tmp_path / "x.safetensors", x)


def test_like_gives_containers_dtype_device_and_requires_grad(path, device):
    model = [Pair(gg.tensor([1.0, 2.0], dtype="f4", requires_grad=True), gg.tensor([3.0])), Layer(gg.tensor([[1.0]]), 7)]
    gg.save(path, model)
    found = gg.load(path, like=model)
    assert type(found[0]) is Pair
    assert type(found[1]) is Layer
    assert found[1].b == 7
    assert found[0].w.requires_grad
    assert found[0].w.dtype == np.float32
    assert not found[0].b.requires_grad
    assert same(found[0].w, model[0].w)
    assert found[0].w.device == device and gg.load(path, "sim:1", like=model)[0].w.device == "sim:1"
    with pytest.raises(ShapeError, match=r"expected an array of shape \(3,\), got \(2,\)"):
        gg.load(path, like=[Pair(gg.ones(3), gg.ones(1)), Layer(gg.ones((1, 1)), 0)])
    with pytest.raises(ArgumentError, match="structure"):
        gg.load(path, like=[gg.ones(2)])


def test_optimiser_and_generator_go_on_after_loading(path, device):
    def run(w, optimiser, rng, steps):
        for _ in range(steps):
            w.grad = rng.normal(size=w.shape)
            optimiser.step()
    w = gg.tensor([1.0, -2.0, 3.0], requires_grad=True)
    optimiser, rng = gg.optim.Adam([w], lr=0.1, amsgrad=True), gg.random.generator(5)
    run(w, optimiser, rng, 3)
    gg.save(path, {"w": w, "optimiser": optimiser.state_dict(), "rng": rng.state_dict()})
    run(w, optimiser, rng, 4)
    saved = gg.load(path)
    twin = gg.tensor(saved["w"].data, requires_grad=True)
    again, stream = gg.optim.Adam([twin], lr=9.0), gg.random.generator()
    again.load_state_dict(saved["optimiser"])
    stream.load_state_dict(saved["rng"])
    run(twin, again, stream, 4)
    assert same(w, twin)


def test_a_plain_numpy_file_loads_as_a_flat_dict(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", a=np.eye(2), b=np.zeros((100, 100)))
    found = gg.load(tmp_path / "x.npz")
    assert list(found) == ["a", "b"]
    assert same(found["a"], np.eye(2))
    assert found["b"].shape == (100, 100)


def test_numpy_reads_our_npz(tmp_path):
    gg.save(tmp_path / "x.npz", {"w": np.eye(2), "n": {"b": np.arange(3)}})
    with np.load(tmp_path / "x.npz") as found:
        assert same(found["w"], np.eye(2))
        assert same(found["n.b"], np.arange(3))


def test_safetensors_bytes_are_the_formats():
    """Written by hand from the specification, not with our writer."""
    text = b'{"b":{"dtype":"BF16","shape":[2],"data_offsets":[8,12]},"a":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}}'
    content = struct.pack("<Q", len(text)) + text + np.array([1.5, -2], "<f4").tobytes() + struct.pack("<HH", 0x3FC0, 0xC000)
    found, structure = gg.io.safetensors.read(io.BytesIO(content), len(content), "x")
    assert structure is None
    assert list(found) == ["b", "a"]
    assert same(found["a"], np.array([[1.5, -2]], "f4"))
    assert same(found["b"], np.array([1.5, -2], "f4"))


def test_our_safetensors_header_is_aligned_and_the_arrays_follow_it_without_gaps(tmp_path):
    gg.save(tmp_path / "x.safetensors", {"m": np.ones(3, bool), "w": np.arange(4.0), "v": np.ones(1, "f4")})
    content = (tmp_path / "x.safetensors").read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8:8 + length])
    assert length % 8 == 0
    assert header["w"] == {"dtype": "F64", "shape": [4], "data_offsets": [0, 32]}
    assert header["v"]["data_offsets"] == [32, 36]
    assert header["m"]["data_offsets"] == [36, 39]
    assert len(content) == 8 + length + 39


def test_equal_trees_give_equal_files(tmp_path):
    for ending in FORMATS:
        for name in "ab":
            gg.save(tmp_path / f"{name}{ending}", tree())
        assert (tmp_path / f"a{ending}").read_bytes() == (tmp_path / f"b{ending}").read_bytes()


# a save is whole or not ----------------------------------------------------------------------------------------------------

def test_a_save_that_breaks_off_leaves_the_old_file_and_no_other(path, monkeypatch):
    gg.save(path, {"x": np.arange(3)})
    old = path.read_bytes()

    def full(descriptor):
        raise OSError("no space left")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        gg.save(path, {"x": np.arange(4)})
    assert path.read_bytes() == old
    assert os.listdir(path.parent) == [path.name]


def test_a_save_that_is_killed_leaves_the_old_file(path):
    gg.save(path, {"x": np.arange(3)})
    old = path.read_bytes()
    code = ("import os, sys, numpy, gpugrad\n"
            "os.replace = lambda *names: os._exit(9)\n"    # the machine stops before the new file gets its name
            "gpugrad.save(sys.argv[1], {'x': numpy.arange(4)})\n")
    assert subprocess.run([sys.executable, "-c", code, str(path)]).returncode == 9
    assert path.read_bytes() == old


def test_a_bad_leaf_leaves_the_old_file(path):
    gg.save(path, {"x": np.arange(3)})
    with pytest.raises(ArgumentError, match=r"got .*object.* at y.0"):
        gg.save(path, {"x": np.arange(3), "y": [object()]})
    assert same(gg.load(path), {"x": np.arange(3)})


def test_saving_through_a_link_keeps_the_link(path):
    real = path.with_name("real" + path.suffix)
    path.symlink_to(real)
    gg.save(path, {"x": np.arange(3)})
    assert path.is_symlink()
    assert same(gg.load(real), {"x": np.arange(3)})


@pytest.mark.parametrize(("bad", "error", "message"), [
    ({1: np.ones(2)}, ArgumentError, "expected short strings as keys, got 1"),
    ({"a\0b": np.ones(2)}, ArgumentError, "keys"),
    ({"\ud800": np.ones(2)}, ArgumentError, "keys"),
    ({"f": len}, ArgumentError, "got <built-in function len> at f"),
    ({"o": np.array([object()])}, DtypeError, "expected numbers at 'o', got dtype object"),
    ({"s": np.array(["a"])}, DtypeError, "got dtype <U1"),
])
def test_what_cannot_be_saved_is_an_error(path, bad, error, message):
    with pytest.raises(error, match=message):
        gg.save(path, bad)
    assert not path.exists()


def test_a_container_that_holds_itself_is_an_error(path):
    loop = []
    loop.append(loop)
    with pytest.raises(ArgumentError, match="at most 100 containers"):
        gg.save(path, loop)


def test_another_ending_is_an_error(tmp_path):
    with pytest.raises(ArgumentError, match=r"ends in .npz or .safetensors, got .*x\.pkl"):
        gg.save(tmp_path / "x.pkl", {})


# hostile and damaged files -------------------------------------------------------------------------------------------------

RAN = []


class Bomb:
    def __reduce__(self):
        return (RAN.append, (1,))


def safetensors_file(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def npz_file(**entries):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name + ".npy", content)
    return buffer.getvalue()


def npy(header, data=b"", version=b"\x01\x00"):
    text = header if isinstance(header, bytes) else repr(header).encode() + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text + data


def objects():
    buffer = io.BytesIO()
    np.savez(buffer, x=np.array([Bomb()], dtype=object))
    return buffer.getvalue()


def head(shape, descr="<f8"):
    return {"descr": descr, "fortran_order": False, "shape": shape}


F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
HOSTILE = {
    "empty": b"", "text": b"hello, this is no checkpoint at all", "zeros": bytes(100), "pickle": pickle.dumps({"x": Bomb()}),
    "npz of objects": objects(),
    "npz with a pickle": npz_file(x=pickle.dumps(Bomb())),
    "npz with a pickle behind a header": npz_file(x=npy(head((1,), "|O"), pickle.dumps([Bomb()]))),
    "npz of huge shape": npz_file(x=npy(head((10**9, 10**9)))),
    "npz of overflowing shape": npz_file(x=npy(head((2**62, 4)))),
    "npz of negative shape": npz_file(x=npy(head((-1, -8)), bytes(64))),
    "npz of a bool as length": npz_file(x=npy(head((1.5,)), bytes(64))),
    "npz with too few bytes": npz_file(x=npy(head((3,)), bytes(16))),
    "npz with too many bytes": npz_file(x=npy(head((1,)), bytes(16))),
    "npz of records": npz_file(x=npy(head((1,), [("a", "<f8")]), bytes(8))),
    "npz of text": npz_file(x=npy(head((1,), "<U2"), bytes(8))),
    "npz with code as header": npz_file(x=npy(b"__import__('os').getcwd()\n", bytes(8))),
    "npz of deep header": npz_file(x=npy(b"(" * 5000 + b"\n")),
    "npz of another version": npz_file(x=npy(head((1,)), bytes(8), b"\x09\x00")),
    "npz with bad structure": npz_file(**{"gpugrad.json": npy(head((4,), "|u1"), b"{..}")}),
    "npz whose structure names no array": npz_file(**{"gpugrad.json": npy(head((13,), "|u1"), b'{"array":"y"}')}),
    "npz whose structure forgets one": npz_file(x=npy(head((1,)), bytes(8)),
                                                **{"gpugrad.json": npy(head((11,), "|u1"), b'{"list":[]}')}),
    "zip cut short": npz_file(x=npy(head((1,)), bytes(8)))[:-10],
    "header of 2^63 bytes": safetensors_file({}, length=2**63),
    "header of all ones": b"\xff" * 64,
    "header longer than the file": safetensors_file({"x": F32}, bytes(8), length=10**6),
    "header that is a list": safetensors_file([1, 2]),
    "header that is no JSON": safetensors_file(b"{'x': 1}"),
    "header of bad UTF-8": safetensors_file(b'{"\xff": 1}'),
    "header of brackets": safetensors_file(b"[" * 100_000),
    "name twice": safetensors_file(b'{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},'
                                   b'"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', bytes(8)),
    "entry that is a number": safetensors_file({"x": 3}),
    "unknown dtype": safetensors_file({"x": {**F32, "dtype": "F33"}}, bytes(8)),
    "dtype that is a list": safetensors_file({"x": {**F32, "dtype": ["F32"]}}, bytes(8)),
    "shape and bytes differ": safetensors_file({"x": {**F32, "shape": [3]}}, bytes(8)),
    "huge shape": safetensors_file({"x": {**F32, "shape": [2**40, 2**40], "data_offsets": [0, 2**82]}}, bytes(8)),
    "negative shape": safetensors_file({"x": {**F32, "shape": [-1, -2]}}, bytes(8)),
    "float shape": safetensors_file({"x": {**F32, "shape": [2.0]}}, bytes(8)),
    "true as shape": safetensors_file({"x": {**F32, "shape": [True, 2]}}, bytes(8)),
    "offsets backwards": safetensors_file({"x": {**F32, "data_offsets": [8, 0]}}, bytes(8)),
    "offsets beyond the file": safetensors_file({"x": {**F32, "data_offsets": [8, 16]}}, bytes(8)),
    "offsets that overlap": safetensors_file({"x": F32, "y": {**F32, "data_offsets": [4, 12]}}, bytes(12)),
    "a hole": safetensors_file({"x": F32, "y": {**F32, "data_offsets": [12, 20]}}, bytes(20)),
    "bytes left over": safetensors_file({"x": F32}, bytes(9)),
    "bytes missing": safetensors_file({"x": F32}, bytes(7)),
    "65 axes": safetensors_file({"x": {"dtype": "U8", "shape": [1] * 65, "data_offsets": [0, 1]}}, bytes(1)),
    "metadata that is a list": safetensors_file({"__metadata__": []}),
    "structure that is a number": safetensors_file({"__metadata__": {"gpugrad": 3}}),
    "structure of unknown kind": safetensors_file({"__metadata__": {"gpugrad": '{"set": []}'}}),
    "structure of bad complex": safetensors_file({"__metadata__": {"gpugrad": '{"complex": ["a", 1]}'}}),
    "structure too deep": safetensors_file({"__metadata__": {"gpugrad": '{"list":[' * 200 + "]}" * 200}}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_or_damaged_file_is_an_error_and_runs_nothing(tmp_path, name):
    path = tmp_path / "file"
    path.write_bytes(HOSTILE[name])
    with pytest.raises(FileFormatError, match=r"^load: expected"):
        gg.load(path)
    assert not RAN, "code in the file ran"
    assert os.listdir(tmp_path) == ["file"]


def compressed():
    buffer = io.BytesIO()
    np.savez_compressed(buffer, a=np.eye(9), b=np.arange(50))
    return buffer.getvalue()


@pytest.mark.parametrize("kind", [*FORMATS, "compressed"])
def test_random_damage_is_an_error_or_a_tree(tmp_path, kind):
    """Cut, flipped, overwritten and stuttering files: FileFormatError or other numbers, and nothing else."""
    path = tmp_path / f"x{kind}"
    if kind == "compressed":
        path.write_bytes(compressed())
    else:
        gg.save(path, {"w": np.arange(12.0).reshape(3, 4), "n": {"b": np.ones(3, "f4")}, "k": 1})
    whole = path.read_bytes()
    rng = np.random.default_rng(1)
    refused = 0
    for trial in range(400):
        content = bytearray(whole)
        at = int(rng.integers(len(content)))
        if trial % 4 == 0:
            del content[at:]
        elif trial % 4 == 1:
            content[at] ^= 1 << int(rng.integers(8))
        elif trial % 4 == 2:
            content[at:at + 8] = rng.bytes(8)
        else:
            content[at:at] = content[:int(rng.integers(64))]
        path.write_bytes(content)
        try:
            gg.load(path)
        except FileFormatError:
            refused += 1
    assert refused > 100


def test_a_zip_bomb_is_refused_before_it_unpacks(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", npy(head((1000,)), bytes(8000)))
    content = bytearray(buffer.getvalue())
    at = content.rindex(b"PK\x01\x02")
    content[at + 24:at + 28] = struct.pack("<I", 2**31)    # the size it says it unpacks to
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(FileFormatError, match="2147483648 bytes packed into"):
        gg.load(tmp_path / "x.npz")


def test_a_missing_file_is_pythons_own_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        gg.load(tmp_path / "none.npz")
