"""Programs on the simulated GPU: what they give is what eager gives, and a replay is one graph launch that allocates nothing."""
import numpy as np
import pytest

import gpugrad as gg
from gpugrad.bench.score_models import Block, Mlp
from gpugrad.cudasim import cupy

RNG = np.random.default_rng(11)


def draw(*shape, dtype="f4"):
    return RNG.standard_normal(shape).astype(dtype)


def on_sim(*arrays):
    return [gg.tensor(x, device="sim") for x in arrays]


def host(tree):
    return [np.asarray(getattr(x, "data", x).get()) for x in gg.trees.flatten(tree)[0]]


def agree(found, wanted, rtol=2e-5, atol=2e-6):
    assert len(found) == len(wanted)
    for x, y in zip(found, wanted, strict=True):
        assert x.shape == y.shape and x.dtype == y.dtype
        np.testing.assert_allclose(x, y, rtol=rtol, atol=atol)


def replayed(compiled, *args):
    """What a call gives, and what the host asked of the device for it."""
    with cupy.recording() as log:
        out = compiled(*args)
    return out, log


def names(log):
    graph, = [x for x in log.launches if x.kind == "graph"]
    return [x.name for x in graph.below]


def softmax_by_hand(x):
    e = gg.exp(x - gg.max(x, axis=-1, keepdims=True))
    return e / gg.sum(e, axis=-1, keepdims=True)


def norm_by_hand(x, w, b):
    d = x - gg.mean(x, axis=-1, keepdims=True)
    return d / gg.sqrt(gg.mean(d * d, axis=-1, keepdims=True) + 1e-5) * w + b


X, ROW, COLUMN, CUBE = draw(6, 9), draw(9), draw(6, 1), draw(2, 5, 7)
INDEX = [3, 0, 3, 5, 3]
NANS = np.where(RNG.random((6, 9)) < 0.2, np.nan, X).astype("f4")

TABLE = {
    "truths as numbers": (lambda x, r: (x > r).astype("f4") * x + (x == gg.max(x, axis=1, keepdims=True)).astype("f4"), X, ROW),
    "chain": (lambda x: gg.tanh(gg.sin(x) * x + 2) - gg.sigmoid(x), X),
    "several results": (lambda x, y: (x * y + 1, gg.exp(x) - y, x), X, X + 1),
    "broadcast": (lambda x, r, c: gg.tanh(x * r + c) * c, X, ROW, COLUMN),
    "broadcast in the middle": (lambda x, y: gg.exp(x * y) + y, CUBE, draw(2, 1, 7)),
    "strided": (lambda x: gg.exp(x.T[1:, ::2]) * 2 + 1, X),
    "select": (lambda x: gg.where(x > 0.5, gg.log(gg.where(x > 0.5, x, 1)), x * x), X),
    "masks": (lambda x: (gg.where((x > 0) & (x < 1), x * 3, 0), x > 0), X),
    "relu family": (lambda x: gg.relu(x) + gg.gelu(x) + gg.silu(x) + gg.numpy.clip(x, -0.5, 0.5), X),
    "softmax by hand": (softmax_by_hand, X),
    "softmax of cubes": (lambda x: gg.sum(softmax_by_hand(x) ** 2, axis=(1, 2)), CUBE),
    "norm by hand": (norm_by_hand, X, ROW, draw(9)),
    "long rows": (softmax_by_hand, draw(2, 3000)),
    "one row": (softmax_by_hand, draw(40)),
    "reductions": (lambda x: (gg.sum(x, axis=0), gg.sum(x * 2, axis=1), gg.max(x, axis=1), gg.min(x), gg.mean(x, axis=(0, 1)),
                              gg.sum(gg.exp(x)), gg.var(x, axis=0)), X),
    "reductions of cubes": (lambda x: (gg.sum(x * x, axis=1), gg.sum(x, axis=(0, 2)), gg.max(x * x, axis=(1, 2)),
                                       gg.sum(x * x, axis=-1, keepdims=True) * x), CUBE),
    "gather": (lambda x: gg.sum(x[INDEX] ** 2, axis=1) * 2, X),
    "products": (lambda x, y: gg.tanh(x @ y) @ (y.T * 2), X, draw(9, 4)),
    "stacks": (lambda x, y: gg.softmax(x @ gg.swapaxes(y, 1, 2) * 0.5) @ y, CUBE, draw(2, 4, 7)),
    "cross-entropy": (lambda x: gg.cross_entropy(x, gg.tensor(np.arange(6) % 9, device="sim")), X),
    "layer norm": (lambda x, w, b: gg.layer_norm(x, w, b), X, ROW, draw(9)),
    "layer norm of a sum": (lambda x, r, w: gg.nn.add_layer_norm(gg.tanh(x), r, w), X, draw(6, 9), draw(9)),
    "0-d": (lambda x: gg.exp(x) * 2 + 1, np.float32(0.3).reshape(())),
    "empty": (lambda x: (gg.exp(x[:0]) * 2, gg.sum(x[:0] * 3)), X),
    "NaN": (lambda x: (gg.relu(x), gg.max(x * 2, axis=1), gg.sum(gg.exp(x), axis=1), gg.maximum(x, 0.1), x == x), NANS),
    "double": (lambda x: softmax_by_hand(gg.sin(x) * 3), X.astype("f8")),
    "half": (lambda x: gg.tanh(x * 2) + 1, X.astype("f2")),
    "integers": (lambda x: (x + 3) * 2, np.arange(5)),
}


@pytest.mark.parametrize("name", TABLE)
def test_compiled_is_eager(name):
    f, *arrays = TABLE[name]
    compiled = gg.compile(f)
    first, other = on_sim(*arrays), on_sim(*arrays)
    tolerance = {"rtol": 2e-3, "atol": 1e-3} if arrays[0].dtype == "f2" else {}
    wanted = host(f(*first))
    for args in (first, first, other, first):
        agree(host(compiled(*args)), wanted, **tolerance)
    assert compiled.programs == 1


@pytest.mark.parametrize("name", [name for name in TABLE if name not in ("integers", "empty", "masks", "half", "NaN")])
def test_compiled_gradients_are_eager(name):
    f, *arrays = TABLE[name]

    def loss(*xs):
        return sum(gg.sum(gg.sin(y)) for y in gg.trees.flatten(f(*xs))[0])
    grads = gg.value_and_grad(loss, argnums=tuple(range(len(arrays))))
    xs = on_sim(*arrays)
    compiled = gg.compile(grads)
    wanted = host(grads(*xs))
    for _ in range(3):
        agree(host(compiled(*xs)), wanted, rtol=5e-5, atol=5e-6)


def test_hessian_vector_products():
    w, x, v = on_sim(draw(5, 5), draw(3, 5), draw(5, 5))

    def product(w, v):
        return gg.hvp(lambda w: gg.sum(gg.tanh(gg.tanh(x @ w) @ w)), w, v)
    compiled = gg.compile(product)
    wanted = host(product(w, v))
    for _ in range(2):
        agree(host(compiled(w, v)), wanted)


def test_arrays_of_other_places_are_copied_in():
    compiled, seen = gg.compile(lambda x: gg.exp(x) * 2), []
    for _ in range(4):
        x = gg.tensor(draw(50), device="sim")
        seen.append(x)                                       # so that the next one lies elsewhere
        agree(host(compiled(x)), [np.exp(x.data.get()) * 2])
    assert compiled.program(seen[0])._run.captures == 2      # for the first address, then for a buffer of its own


def test_replays_are_safe_after_other_allocations():
    x, = on_sim(draw(16, 16))
    compiled = gg.compile(lambda x: gg.sum(gg.tanh(x @ x) @ x, axis=0))
    wanted = host(compiled(x))
    others = []
    for _ in range(3):
        others += [gg.tensor(draw(16, 16), device="sim") @ x for _ in range(5)]
        agree(host(compiled(x)), wanted, rtol=0, atol=0)
        cupy.get_default_memory_pool().free_all_blocks()
        del others[::2]


@pytest.mark.parametrize(("f", "launches"), [
    (lambda x, r, w: gg.layer_norm(gg.linear(x, w @ w, r[0]) + r) * x, 4),           # two products, the norm, the multiplication
    (lambda x, r, w: gg.nn.add_layer_norm(gg.linear(x, w @ w, r[0]), r)[0] * x, 4),
    (lambda x, r, w: (lambda u: gg.layer_norm(u) * u)(x + r), 2),
    (lambda x, r, w: (lambda u: u[0] * u[1])(gg.nn.add_layer_norm(x, r)), 2),
], ids=["linear + r", "linear, added", "sum", "added"])
def test_a_residual_before_a_layer_norm_costs_no_launch(f, launches):
    xs = on_sim(draw(96, 64), draw(96, 64), draw(64, 64))
    compiled = gg.compile(f)
    for _ in range(2):
        out, log = replayed(compiled, *xs)
    agree(host(out), host(f(*xs)), rtol=1e-4, atol=1e-4)
    assert len(names(log)) == launches, names(log)
    assert [n.split("<")[0] for n in names(log) if "layer_norm" in n] == ["layer_norm_row"]


def test_results_are_the_callers_own_unless_they_may_be_reused():
    x, = on_sim(draw(8))
    f = lambda x: gg.exp(x) + 1
    fresh, reused = gg.compile(f), gg.compile(f, reuse_outputs=True)
    for compiled in (fresh, reused):
        compiled(x)
    a = fresh(x)
    before = a.data.get()
    x.data[...] = 3
    b, log = replayed(reused, x)
    assert log.mallocs == 0 and [y.kind for y in log.launches] == ["graph"]
    agree(host(fresh(x)), host(b), rtol=0, atol=0)
    agree([a.data.get()], [before], rtol=0, atol=0)


def test_an_elementwise_chain_is_one_launch():
    x, y = on_sim(draw(4, 8), draw(8))
    compiled = gg.compile(lambda x: gg.where(x > 0, gg.sigmoid(gg.tanh(x * y) + x) * x, softmax_by_hand(x)))
    compiled(x)
    assert len(names(replayed(compiled, x)[1])) == 1


def training(work, device, **options):
    """(model, a step that forgets the gradients)."""
    model = work.build(gg, device)

    def step():
        out = model.step()
        for leaf in model.leaves:
            leaf.grad = None
        return out
    return model, gg.compile(step, **options) if options else step


SMALL = Mlp(8, (12, 16, 16, 10))


@pytest.mark.parametrize("optimiser", ["Adam", "SGD"])
@pytest.mark.parametrize("epilogue", [False, True])
def test_training_steps(optimiser, epilogue):
    eager, step = training(SMALL, "sim")
    ours, compiled = training(SMALL, "sim", reuse_outputs=True)
    if optimiser == "SGD":
        for model in (eager, ours):
            model.optimiser = gg.optim.SGD(model.leaves, lr=0.1, momentum=0.9)
    for turn in range(4):
        if turn == 2:
            eager.optimiser.lr = ours.optimiser.lr = 1e-2
        with gg.cuda.relu_epilogue(epilogue):
            agree(host(compiled()), host(step()))
    agree(host(ours.leaves), host(eager.leaves), rtol=1e-4, atol=1e-5)
    assert compiled.programs == 1


@pytest.mark.parametrize("epilogue", [False, True])
def test_a_training_step_is_one_launch(epilogue):
    ours, compiled = training(SMALL, "sim", reuse_outputs=True)
    with gg.cuda.relu_epilogue(epilogue):
        compiled()
        _, log = replayed(compiled)
        assert [x.kind for x in log.launches] == ["graph"]
        assert (log.mallocs, log.waits, log.to_device, log.to_host) == (0, 0, 0, 0)
        assert len(names(log)) == (10 if epilogue else 14), names(log)
        ours.optimiser.lr = 0.5
        _, log = replayed(compiled)
        assert len(log.launches) == 2                        # the new rate, then the graph
    compiled()
    assert compiled.programs == 1 + epilogue                 # what the context allows is part of a program


def test_replaced_parameters():
    eager, step = training(SMALL, "sim")
    ours, compiled = training(SMALL, "sim", reuse_outputs=True)
    for model, run in ((eager, step), (ours, compiled)):
        run()
        for leaf in model.leaves:
            leaf.data = leaf.data * 0.5
        run()
    agree(host(compiled()), host(step()))
    agree(host(ours.leaves), host(eager.leaves), rtol=1e-4, atol=1e-5)


def test_state_goes_on_from_eager_steps_and_back():
    _, step = training(SMALL, "sim")
    ours, compiled = training(SMALL, "sim", reuse_outputs=True)
    for turn in range(4):
        agree(host(ours.step() if turn in (0, 2) else compiled()), host(step()))


def test_gradients_stay_where_the_function_leaves_them():
    model = SMALL.build(gg, "sim")
    compiled = gg.compile(model.backward)
    for _ in range(3):
        compiled()
    found = host([leaf.grad for leaf in model.leaves])
    model.backward()
    agree(found, host([leaf.grad for leaf in model.leaves]))


def test_a_transformer_block():
    work = Block(1, 8, 16, 2)
    _, step = training(work, "sim")
    _, compiled = training(work, "sim", reuse_outputs=True)
    for _ in range(2):
        found, log = replayed(compiled)
        agree(host(found), host(step()), rtol=1e-4, atol=2e-5)
    assert [x.kind for x in log.launches] == ["graph"]
    assert len(names(log)) <= 21, names(log)


class ByHand(Block):
    def attend(self, gg, q, k, v):
        return gg.softmax(q @ gg.numpy.matrix_transpose(k) * q.shape[-1] ** -0.5) @ v


class WhollyByHand(Block):
    def attend(self, gg, q, k, v):
        return softmax_by_hand(q @ gg.numpy.matrix_transpose(k) * q.shape[-1] ** -0.5) @ v


@pytest.mark.parametrize("kind", [ByHand, WhollyByHand])
@pytest.mark.parametrize(("most_work", "launches", "copies"), [(1 << 24, 27, 0), (0, 31, 3)])
def test_a_transformer_block_with_attention_by_hand(kind, most_work, launches, copies, monkeypatch):
    """Products of heads that lie side by side read and write them there; where they are large, what is copied is copied once,
    all three in one launch, and the graph has it."""
    monkeypatch.setattr("gpugrad.kernels.matmul.SPREAD_WORK", most_work)
    monkeypatch.setattr("gpugrad.kernels.matmul._small", {})
    step = gg.compile(kind(2, 8, 16, 2).build(gg, "sim").step, reuse_outputs=True)
    eager = kind(2, 8, 16, 2).build(gg, "sim").step
    agree(host(step()), host(eager()))
    output, log = replayed(step)
    agree(host(output), host(eager()))
    assert [x.kind for x in log.launches] == ["graph"] and not log.mallocs and not log.waits
    found = names(log)
    assert len(found) <= launches and sum(x.startswith("copies") for x in found) == copies, found
    assert sum(x.startswith("join") for x in found) == (copies > 0)


@pytest.mark.parametrize(("kind", "launches"), [(Block, 20), (ByHand, 26)])
def test_a_gelu_in_the_product_saves_a_launch(kind, launches):
    step, eager = (kind(2, 8, 16, 2).build(gg, "sim").step for _ in range(2))
    compiled = gg.compile(step, reuse_outputs=True)
    with gg.cuda.gelu_epilogue():
        for _ in range(2):
            output, log = replayed(compiled)
            agree(host(output), host(eager()), rtol=1e-4, atol=2e-5)
        assert [x.kind for x in log.launches] == ["graph"] and not log.mallocs
        assert len(names(log)) <= launches and not any(x.startswith("gelu") for x in names(log)), names(log)


@pytest.mark.parametrize("outputs", [16, 12])                       # 12: no rows of a multiple of 8
def test_gradients_behind_a_gelu_in_the_product(outputs):
    arrays = draw(2, 3, 9), draw(outputs, 9), draw(outputs)
    f = gg.value_and_grad(lambda x, w, b: gg.sum(gg.sin(gg.gelu(gg.linear(x, w, b), approximate="tanh"))), argnums=(0, 1, 2))
    compiled, xs = gg.compile(f), on_sim(*arrays)
    with gg.cuda.gelu_epilogue():
        for _ in range(3):
            found, log = replayed(compiled, *xs)
            agree(host(found), host(f(*xs)), rtol=1e-4, atol=1e-5)
        assert any(n.startswith("gelu") for n in names(log)) == (outputs == 12), names(log)
    compiled(*xs)
    assert compiled.programs == 2                            # what the context allows is part of a program


def test_gradients_of_attention_by_hand():
    ours, eager = ByHand(2, 5, 12, 3).build(gg, "sim"), ByHand(2, 5, 12, 3).build(gg, "cpu")
    compiled = gg.compile(ours.backward)
    for _ in range(3):
        compiled()
    eager.backward()
    agree(host([leaf.grad for leaf in ours.leaves]), [leaf.grad.numpy() for leaf in eager.leaves], rtol=1e-4, atol=1e-5)


B = draw(2, 3, 5, 6)


def rows_of(x):
    return gg.reshape(gg.transpose(x, (0, 2, 1, 3)), (x.shape[0], x.shape[2], -1))


def heads_of(x, count):
    return gg.transpose(gg.reshape(x, (*x.shape[:2], count, -1)), (0, 2, 1, 3))


PLACES = {
    "rows": (lambda a, b: rows_of(heads_of(a, 3) @ b.mT), {"gemm"}, draw(2, 4, 18), B),
    "turned, and no more": (lambda a, b: gg.transpose(heads_of(a, 3) @ b.mT, (0, 2, 1, 3)), None, draw(2, 4, 18), B),
    "rows read twice": (lambda a, b: (rows_of(p := heads_of(a, 3) @ b.mT), gg.sum(p)), None, draw(2, 4, 18), B),
    "columns": (lambda a, b: gg.reshape(gg.transpose(heads_of(a, 3) @ b.mT, (0, 3, 1, 2)), (2, 5, -1)), {"gemm"},
                draw(2, 4, 18), B),
    "joined": (lambda a, b: gg.concatenate([heads_of(a, 3) @ b.mT, heads_of(a, 3) @ gg.sin(b).mT], axis=-1), None,
               draw(2, 4, 18), B),
    "joined, turned": (lambda a, b: rows_of(gg.concatenate([heads_of(a, 3) @ b.mT, (heads_of(a, 3) * 2) @ b.mT], axis=-1)),
                       {"gemm"}, draw(2, 4, 18), B),
    "joined as matrices turned": (lambda a, b: gg.concatenate([(heads_of(a, 3) @ b.mT).mT, b @ heads_of(a, 3).mT], axis=1),
                                  {"gemm"}, draw(2, 4, 18), B),
    "one of them no product": (lambda a, b: rows_of(gg.concatenate([heads_of(a, 3) @ b.mT, gg.sin(b[:, :, :4, :5])], axis=3)),
                               None, draw(2, 4, 18), B),
    "one joined twice": (lambda a, b: rows_of(gg.concatenate([p := heads_of(a, 3) @ b.mT, p, p], axis=3)), None,
                         draw(2, 4, 18), B),
    "a result that is joined": (lambda a, b: (p := heads_of(a, 3) @ b.mT, gg.concatenate([p, p * 2], axis=0)), None,
                                draw(2, 4, 18), B),
    "reversed": (lambda a, b: rows_of(heads_of(a[:, ::-1], 3)[:, ::-1] @ b.mT), None, draw(2, 4, 18), B),
    "repeated": (lambda a, b: rows_of(heads_of(a, 3) @ b[:1].mT), {"gemm"}, draw(2, 4, 18), B),
    "vectors": (lambda a, b: heads_of(a, 3) @ b, None, draw(2, 4, 18), draw(6)),
    "too long": (lambda a, b: rows_of(heads_of(a, 2) @ b.mT), None, draw(2, 4, 300), draw(2, 2, 5, 150)),
    "doubles": (lambda a, b: rows_of(heads_of(a, 3) @ b.mT), {"gemm"}, draw(2, 4, 18, dtype="f8"), B.astype("f8")),
}


@pytest.mark.parametrize("name", PLACES)
def test_products_write_where_they_are_read(name):
    f, only, *arrays = PLACES[name]
    compiled = gg.compile(f)
    for scale in (1, 2, 3):
        xs = on_sim(*(scale * x for x in arrays))
        found, log = replayed(compiled, *xs)
        agree(host(found), host(f(*xs)))
    if only:
        assert {n.split("<")[0] for n in names(log)} == only, names(log)


def test_parameters_without_an_optimiser_are_written_in_place():
    w, x = on_sim(draw(9, 3), X)
    w.requires_grad = True

    def step(x):
        loss = gg.sum(gg.tanh(x @ w))
        g = gg.grad(lambda w: gg.sum(gg.tanh(x @ w)))(w)
        with gg.no_grad():
            w.data[...] = (w - 0.1 * g).data
        return loss
    compiled, copy = gg.compile(step), w.data.copy()
    found = [host(compiled(x)) for _ in range(3)]
    w.data[...] = copy
    for each in found:
        agree(each, host(step(x)))


def test_what_a_capture_refuses_runs_launch_by_launch():
    a, = on_sim(draw(3, 3) + 1j * draw(3, 3))                # CuPy's cuBLAS multiplies complex numbers
    compiled = gg.compile(lambda a: (a @ a) * 2)
    for _ in range(3):
        agree(host(compiled(a)), [a.data.get() @ a.data.get() * 2])
    assert "no graph: NotImplementedError: calling cuBLAS" in repr(compiled.program(a))
    assert "no CUDA graph: NotImplementedError: calling cuBLAS" in str(compiled.program(a).cost)


def test_errors():
    x, = on_sim(X)
    with pytest.raises(gg.errors.ArgumentError, match="backend 'cuda' for arrays on a GPU"):
        gg.compile(lambda x: x * 2, backend="numpy")(x)
    with pytest.raises(gg.errors.ArgumentError, match="got 'cuda' for arrays on cpu"):
        gg.compile(lambda x: x * 2, backend="cuda")(X)
    other = gg.tensor(X, device="sim:1")
    with pytest.raises(gg.errors.TraceError, match="one device"):
        gg.compile(lambda x, y: x * y)(x, other)


def test_dropout_draws_its_mask_in_the_graph_and_the_same_on_the_way_back(monkeypatch):
    x, w = on_sim(draw(40, 64), draw(64, 64))
    grads = gg.value_and_grad(lambda x, w: gg.sum(gg.sin(gg.nn.dropout(gg.linear(x, w), 0.3))), argnums=(0, 1))
    gg.random.seed(5)
    wanted = [host(grads(x, w)) for _ in range(4)]
    monkeypatch.setattr("gpugrad.random.keep", None)                 # the mask as the host would draw it
    compiled = gg.compile(grads)
    gg.random.seed(5)
    for each in wanted:
        out, log = replayed(compiled, x, w)
        agree(host(out), each, rtol=1e-4, atol=1e-4)
    assert [n.split("<")[0] for n in names(log)].count("dropout") == 2
    assert not any(np.array_equal(a[0], b[0]) for a, b in zip(wanted, wanted[1:], strict=False))


def test_draws_are_new_at_each_run():
    x, = on_sim(np.ones((4, 8), "f4"))
    f = lambda x: gg.nn.dropout(x, 0.5, training=True) * gg.random.normal(size=8, dtype="f4", device="sim")
    compiled = gg.compile(f)
    gg.random.seed(3)
    wanted = [host(f(x)) for _ in range(3)]
    gg.random.seed(3)
    for each in wanted:
        agree(host(compiled(x)), each)


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("dtypes", ["e", "ef", "efd"])
@pytest.mark.parametrize("make", [lambda w, **k: gg.optim.SGD(w, 0.1, momentum=0.9, weight_decay=0.1, **k),
                                  lambda w, **k: gg.optim.Adam(w, 0.1, **k), lambda w, **k: gg.optim.AdamW(w, 0.1, **k)])
def test_a_step_of_several_dtypes_is_one_graph_in_either_direction(make, dtypes, maximize):
    def trained(device, compiled):
        weights = [gg.tensor(X[k].astype(dtype), device=device, requires_grad=True) for k, dtype in enumerate(dtypes)]
        optimiser = make(weights, maximize=maximize)

        def step(x):
            optimiser.zero_grad()
            loss = sum(gg.sum(w * w * x).astype("f4") for w in weights)
            loss.backward()
            optimiser.step()
            return loss
        run = compiled(step)
        for rate in (0.5, 0.25, 2.0):
            x = gg.tensor(np.float32(rate), device=device)
            with cupy.recording() as log:
                run(x)
        return [w.detach().cpu().numpy() for w in weights], log

    wanted, _ = trained("cpu", lambda f: f)
    found, log = trained("sim", gg.compile)
    assert (sum(x.kind == "graph" for x in log.launches), log.waits) == (1, 0)
    for x, y in zip(found, wanted, strict=True):
        np.testing.assert_allclose(x, y, rtol=5e-3 if x.dtype == "e" else 2e-5, atol=2e-3 if x.dtype == "e" else 1e-6)
