"""Solvers: options, accumulation, snapshots that resume exactly, tests on the way."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from segaware_np import optim
from segaware_np.caffe import Net, Solver
from segaware_np.caffe.formats.wire import SolverState, read_solverstate, write_solverstate
from segaware_np.caffe.weights import read_layers, write_layers
from segaware_np.files import FormatError

NET = """
input: "x" input_shape { dim: 2 dim: 2 dim: 4 dim: 4 }
input: "l" input_shape { dim: 2 dim: 1 dim: 4 dim: 4 }
layer { name: "c" type: "Convolution" bottom: "x" top: "c"
        param { lr_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
        convolution_param { num_output: 4 kernel_size: 3 pad: 1 weight_filler { type: "msra" } } }
layer { name: "frozen" type: "Scale" bottom: "c" top: "c" param { lr_mult: 0 } }
layer { name: "drop" type: "Dropout" bottom: "c" top: "c" }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "c" bottom: "l" top: "loss" }
"""
SOLVERS = {
    "SGD": "momentum: 0.9",
    "Nesterov": "momentum: 0.9",
    "AdaGrad": "",
    "RMSProp": "rms_decay: 0.9",
    "AdaDelta": "momentum: 0.95 delta: 1e-6",
    "Adam": "momentum: 0.9",
}


class Feed:
    """The same endless row of batches from any number on."""

    def __init__(self, start: int = 0) -> None:
        self.number = start

    def __call__(self) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(self.number)
        self.number += 1
        return {"x": rng.normal(size=(2, 2, 4, 4)), "l": rng.integers(0, 4, (2, 1, 4, 4))}


def make(kind: str = "SGD", more: str = "", net: str = NET) -> Solver:
    text = f'type: "{kind}" base_lr: 0.1 lr_policy: "fixed" weight_decay: 0.01 max_iter: 9 '
    return Solver(text + SOLVERS[kind] + " " + more, net=Net(net, phase="TRAIN", dtype="float64"))


def parameters(solver: Solver) -> list[bytes]:
    return [blob.data.tobytes() for blob in solver.net.learned().values()]


@pytest.mark.parametrize("kind", SOLVERS)
def test_resume_is_exact(tmp_path: Path, kind: str) -> None:
    straight = make(kind, "iter_size: 2")
    straight.step(5, Feed())
    stopped = make(kind, "iter_size: 2")
    stopped.step(3, Feed())
    state = stopped.snapshot(tmp_path / "run")
    assert state == tmp_path / "run.solverstate"
    assert (tmp_path / "run.caffemodel").exists()
    for name in ("run", "run.solverstate"):
        resumed = make(kind, "iter_size: 2")
        resumed.restore(tmp_path / name)
        assert (resumed.iteration, resumed.loss) == (3, stopped.loss)
        resumed.step(2, Feed(6))
        assert parameters(resumed) == parameters(straight)


TWINS = """input: "x" input_shape { dim: 1 dim: 1 }
""" + "".join(f"""layer {{ name: "{name}" type: "InnerProduct" bottom: "{a}" top: "{b}"
inner_product_param {{ num_output: 1 bias_term: false }} }}
""" for name, a, b in (("fc", "x", "y"), ("fc", "y", "z"), ("", "z", "u"), ("", "u", "v"))) + """
layer { name: "l" type: "EuclideanLoss" bottom: "v" bottom: "x" top: "l" }"""


@pytest.mark.parametrize("kind", SOLVERS)
def test_layers_of_one_name_learn_each_by_itself_and_resume(tmp_path: Path, kind: str) -> None:
    """Two called "fc", two without a name: v = c d b a x, with loss (v - x)^2 / 2."""
    def fresh() -> Solver:
        solver = make(kind, net=TWINS)
        for k, blob in enumerate(solver.net.learned().values()):
            blob.data[...] = 1 + 0.1 * k
        return solver

    def batch() -> dict[str, np.ndarray]:
        return {"x": np.array([[0.5]])}

    straight, stopped = fresh(), fresh()
    w = np.array([blob.data.item() for blob in straight.net.learned().values()])
    straight.net.forward(batch())
    straight.net.backward()
    want = (np.prod(w) * 0.5 - 0.5) * 0.5 * np.prod(w) / w
    got = [blob.diff.item() for blob in straight.net.learned().values()]
    np.testing.assert_allclose(got, want, 1e-12)
    straight.net.clear_diffs()
    assert not any(blob.diff.any() for blob in straight.net.learned().values())
    straight.step(5, batch)
    stopped.step(2, batch)
    stopped.snapshot(tmp_path / "s")
    resumed = fresh()
    resumed.restore(tmp_path / "s")
    resumed.step(3, batch)
    assert parameters(resumed) == parameters(straight)
    assert (np.array([b.data.item() for b in straight.net.learned().values()]) != w).all()


def test_gradients_are_those_of_one_iteration() -> None:
    solver = make(more="iter_size: 3")
    before = solver.net.params["c"][1].data.copy()
    solver.net.params["c"][1].diff[...] = 1e9  # cleared when the iteration starts
    feed = Feed()
    solver.step(1, feed)
    assert feed.number == 3
    assert np.abs(solver.net.params["c"][1].data - before).max() < 1
    assert not solver.net.params["frozen"][0].diff.any()
    np.testing.assert_array_equal(solver.net.params["frozen"][0].data, 1)


@pytest.mark.parametrize(
    ("policy", "rates"),
    [
        ('"fixed"', [0.5, 0.5, 0.5, 0.5]),
        ('"step" gamma: 0.5 stepsize: 2', [0.5, 0.5, 0.25, 0.25]),
        ('"multistep" gamma: 0.5 stepvalue: 1 stepvalue: 3', [0.5, 0.25, 0.25, 0.125]),
        ('"exp" gamma: 0.5', [0.5, 0.25, 0.125, 0.0625]),
        ('"inv" gamma: 1 power: 1', [0.5, 0.25, 0.5 / 3, 0.125]),
        ('"poly" power: 2 max_iter: 4', [0.5, 0.28125, 0.125, 0.03125]),
        ('"sigmoid" gamma: -1 stepsize: 2', [0.5 / (1 + np.exp(i - 2)) for i in range(4)]),
    ],
)
def test_policies(policy: str, rates: list[float]) -> None:
    lines: list[str] = []
    net = Net(NET, phase="TRAIN")
    solver = Solver(f"base_lr: 0.5 display: 1 lr_policy: {policy}", net=net, log=lines.append)
    solver.step(4, Feed())
    found = [float(line.rsplit(" ", 1)[1]) for line in lines]
    np.testing.assert_allclose(found, rates, 1e-5)


def test_the_old_name_of_the_type() -> None:
    net = Net(NET, phase="TRAIN")
    solver = Solver('base_lr: 1 lr_policy: "fixed" solver_type: ADAM', net=net)
    assert isinstance(solver._optimizer, optim.Adam)
    assert solver._optimizer.momentum == 0  # unset, as in the published embeddings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('base_lr: 1 lr_policy: "fixed" type: "LBFGS"', "type: expected one of SGD.*'LBFGS'"),
        ('base_lr: 1 lr_policy: "cosine"', "lr_policy: expected one of fixed"),
        ('base_lr: 1 lr_policy: "step" gamma: 0.1', "lr_policy 'step': size"),
        ('base_lr: -1 lr_policy: "fixed"', "lr_policy 'fixed': lr"),
        ('base_lr: 1 lr_policy: "fixed" momentum: 1', "momentum: expected a number in"),
        ('base_lr: 1 lr_policy: "fixed" type: "AdaGrad" momentum: 0.5', "has no momentum"),
        ('base_lr: 1 lr_policy: "fixed" type: "RMSProp"', "without rms_decay: .* 0.99 in"),
        ('base_lr: 1 lr_policy: "fixed" regularization_type: "L3"', "expected L1 or L2"),
        ('base_lr: 1 lr_policy: "fixed" snapshot: 5', "snapshot_prefix"),
        ('base_lr: 1 lr_policy: "fixed" snapshot_diff: true', "without diffs"),
        ('base_lr: 1 lr_police: "fixed"', "no field 'lr_police'; did you mean lr_policy"),
        ('base_lr: 1 lr_policy: "fixed" test_iter: 3 test_interval: 1',
         "test_iter 0: there is no test net"),
        ('base_lr: 1 lr_policy: "fixed" test_iter: 3', "test_iter needs a test_interval"),
        ('base_lr: 1 lr_policy: "fixed" test_net: "a"', "expected one for each of 1 test nets"),
        ('base_lr: 1 lr_policy: "fixed" test_iter: -1', "test_iter: expected at least 0, got -1"),
        ('base_lr: 1 lr_policy: "fixed" iter_size: 0', "iter_size: expected at least 1, got 0"),
        ('base_lr: 1 lr_policy: "fixed" max_iter: -1', "max_iter: expected at least 0, got -1"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        Solver(text, net=Net(NET, phase="TRAIN"))
    with pytest.raises(FormatError, match="expected one of net, net_param"):
        Solver('base_lr: 1 lr_policy: "fixed"')


def test_files_and_the_whole_run(tmp_path: Path) -> None:
    """Train and test nets from files beside the solver's, snapshots, tests, a last snapshot."""
    body = NET[NET.index("layer") :]
    source = """
    layer { name: "d" type: "DummyData" top: "x" top: "l" dummy_data_param {
            shape { dim: 2 dim: 2 dim: 4 dim: 4 } shape { dim: 2 dim: 1 dim: 4 dim: 4 }
            data_filler { type: "gaussian" } data_filler { value: 3 } } }
    """
    (tmp_path / "net.prototxt").write_text(source + body)
    solver_file = tmp_path / "solver.prototxt"
    solver_file.write_text(
        'net: "net.prototxt" base_lr: ${LR} lr_policy: "fixed" max_iter: 5 random_seed: 4 '
        f'test_iter: 2 test_interval: 5 test_compute_loss: true snapshot: 4 display: 5 '
        f'snapshot_prefix: "{tmp_path}/s"')
    lines: list[str] = []
    solver = Solver(solver_file, variables={"LR": 0.1}, log=lines.append)
    first = solver.net.params["c"][0].data
    assert solver.test_nets[0].params["c"][0].data is first
    loss = solver.solve()
    assert loss < np.log(4)
    tests = [line.split(" = ") for line in lines if line.startswith("test")]
    assert [name for name, _ in tests] == [  # also after the last iteration
        f"test 0 at {at}: {name}" for at in (0, 5) for name in ("loss", "test loss")]
    assert all(a[1] == b[1] for a, b in zip(tests[::2], tests[1::2], strict=True))
    names = {path.name for path in tmp_path.iterdir()}
    assert {"s_iter_4.solverstate", "s_iter_5.caffemodel"} <= names
    again = Solver(solver_file, variables={"LR": 0.1})
    again.restore(tmp_path / "s_iter_4")
    again.step(1)
    assert parameters(again) == parameters(solver)


def test_no_tests_are_no_test_net() -> None:
    """HED's solver says so, with a network that has no test phase."""
    for more in ("test_iter: 0 test_interval: 1", "test_iter: 0"):
        solver = make("SGD", more)
        solver.step(2, Feed())
        assert solver.test_nets == [] and solver.iteration == 2


def test_restoring_what_does_not_fit(tmp_path: Path) -> None:
    solver = make("SGD")
    solver.step(1, Feed())
    path = solver.snapshot(tmp_path / "run")
    before = parameters(solver)
    with pytest.raises(ValueError, match="a state of SGD, this is Adam"):
        make("Adam").restore(path)
    state = read_solverstate(path)
    write_solverstate(path, SolverState(1, "", state.history[:-1]))
    with pytest.raises(ValueError, match="expected 3 arrays of history, got 2"):
        solver.restore(path)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(FormatError, match="truncated"):
        solver.restore(path)
    with pytest.raises(FileNotFoundError):
        solver.restore(tmp_path / "none")
    assert parameters(solver) == before


RUN = {"solver": "SGD", "net": {"seed": 1, "passes": 1}, "loss": 1.5, "losses": [1.5]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"net": {"seed": 1}}, "damaged state .*passes"),
        ({"net": {"seed": "one", "passes": 1}}, "damaged state .*str"),
        ({"net": {"seed": -1, "passes": 1}}, "damaged state .*at least 0"),
        ({"net": [1, 2]}, "damaged state"),
        ({"loss": None}, "damaged state"),
        ({"losses": 3}, "damaged state"),
        ({"losses": ["much"]}, "damaged state .*much"),
        ({"iteration": -1}, "damaged, at iteration -1"),
        ({"names": "c"}, "expected weights of all layers, got none of 'frozen'"),
    ],
)
def test_a_failed_restore_changes_nothing(tmp_path: Path, change: dict, message: str) -> None:
    other = make("SGD")
    other.step(3, Feed())
    path = other.snapshot(tmp_path / "run")
    state = read_solverstate(path)
    iteration = change.get("iteration", 3)
    if "names" in change:
        layers = read_layers(tmp_path / "run.caffemodel")
        write_layers(tmp_path / "run.caffemodel", layers[:1])
    write_solverstate(path, SolverState(iteration, "", state.history, 0, {**RUN, **change}))
    solver = make("SGD")
    solver.step(1, Feed(9))
    before, loss, net = parameters(solver), solver.loss, solver.net.state()
    arrays = [array.tobytes() for array in solver._optimizer.state()[0].values()]
    with pytest.raises(ValueError, match=message):
        solver.restore(path)
    assert (parameters(solver), solver.loss, solver.iteration) == (before, loss, 1)
    assert solver.net.state() == net
    assert [array.tobytes() for array in solver._optimizer.state()[0].values()] == arrays


def test_a_used_solver_is_restored_as_a_new_one_is(tmp_path: Path) -> None:
    path = make("SGD", "average_loss: 4").snapshot(tmp_path / "run")
    lines: list[list[str]] = [[], []]
    for steps, log in zip((3, 0), lines, strict=True):
        solver = make("SGD", "average_loss: 4 display: 1")
        solver.step(steps, Feed(5))
        solver.restore(path)
        solver.log = log.append
        solver.step(2, Feed())
    assert lines[0] == lines[1] and len(lines[0]) == 2


def test_a_state_of_caffe_itself(tmp_path: Path) -> None:
    """Without this library's own additions to the file."""
    solver = make("SGD")
    solver.step(2, Feed())
    path = solver.snapshot(tmp_path / "run")
    state = read_solverstate(path)
    write_solverstate(path, SolverState(2, state.learned_net, state.history))
    resumed = make("SGD")
    resumed.restore(path)
    assert resumed.iteration == 2
    assert parameters(resumed) == parameters(solver)


def test_snapshots_tell_caffe_how_many_steps_are_passed(tmp_path: Path) -> None:
    text = 'base_lr: 1e-3 lr_policy: "multistep" gamma: 0.1 stepvalue: 1 stepvalue: 2 stepvalue: 9'
    solver = Solver(text, net=Net(NET, phase="TRAIN"))
    solver.step(3, Feed())
    assert read_solverstate(solver.snapshot(tmp_path / "run")).current_step == 2


def test_a_loss_that_is_not_finite_stops() -> None:
    solver = make()
    before = parameters(solver)
    with pytest.raises(optim.NonFiniteError, match="iteration 1"):
        solver.step(1, lambda: {"x": np.full((2, 2, 4, 4), np.nan), "l": np.zeros((2, 1, 4, 4))})
    assert parameters(solver) == before
    assert solver.iteration == 0


@pytest.mark.parametrize("more", ["snapshot: 2", "snapshot: 2 snapshot_after_train: false", ""])
def test_a_prefix_that_cannot_be_written_is_refused_before_the_first_iteration(tmp_path, more):
    (tmp_path / "taken_iter_4.caffemodel").mkdir()
    for prefix, message in (("none/run", "no such folder"), ("taken", "expected a file to write")):
        text = f'base_lr: 1 lr_policy: "fixed" max_iter: 4 snapshot_prefix: "{tmp_path}/{prefix}"'
        solver = Solver(f"{text} {more}", net=Net(NET, phase="TRAIN"))
        before = [blob.data.copy() for blob in solver.net.params["c"]]
        with pytest.raises(FormatError, match=f"line 1: snapshot_prefix .*{prefix}.*: {message}"):
            solver.solve(lambda: pytest.fail("the first batch was read"))
        after = [blob.data for blob in solver.net.params["c"]]
        assert all(map(np.array_equal, before, after))
    assert [path.name for path in tmp_path.iterdir()] == ["taken_iter_4.caffemodel"]


def test_a_prefix_without_snapshots_is_not_looked_at():
    text = 'base_lr: 0 lr_policy: "fixed" max_iter: 1 snapshot_prefix: "none/run"'
    solver = Solver(text + " snapshot_after_train: false", net=Net(NET, phase="TRAIN"))
    x, labels = np.zeros((2, 2, 4, 4), "f4"), np.zeros((2, 1, 4, 4), "f4")
    assert solver.solve(lambda: {"x": x, "l": labels}) > 0


class Disturbed(Feed):
    """A feed during whose batch ``at`` something happens."""

    def __init__(self, at: int, disturb: Callable[[], object], start: int = 0) -> None:
        super().__init__(start)
        self.at, self.disturb = at, disturb

    def __call__(self) -> dict[str, np.ndarray]:
        if self.number == self.at:
            self.disturb()
        return super().__call__()


@pytest.mark.usefixtures("listening")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_to_end_completes_the_iteration(tmp_path: Path, name: str) -> None:
    if not hasattr(signal, name):
        pytest.skip("this system has no such signal")
    number, prefix = getattr(signal, name), f'iter_size: 2 snapshot_prefix: "{tmp_path}/s"'
    straight = make("Adam", "iter_size: 2")
    straight.step(5, Feed())
    stopped = make("Adam", prefix)
    with pytest.raises((KeyboardInterrupt, SystemExit)) as caught:  # amid the third iteration
        stopped.step(5, Disturbed(4, lambda: signal.raise_signal(number)))
    assert name == "SIGINT" or caught.value.code == 128 + number
    resumed = make("Adam", prefix)
    resumed.restore(tmp_path / "s_iter_3")
    resumed.step(2, Feed(6))
    assert parameters(resumed) == parameters(straight)


def test_a_feed_that_fails_loses_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        raise FormatError("a.png: damaged")

    prefix = f'iter_size: 2 snapshot_prefix: "{tmp_path}/s"'
    straight = make("Adam", "iter_size: 2")
    straight.step(5, Feed())
    stopped = make("Adam", prefix)
    with (
        pytest.raises(FormatError, match="a.png: damaged"),
        pytest.warns(UserWarning, match=r"learned before this error is in .*s_iter_3.solverstate"),
    ):
        stopped.step(5, Disturbed(7, fail))  # the second batch of the fourth iteration
    resumed = make("Adam", prefix)
    resumed.restore(tmp_path / "s_iter_3")
    resumed.step(2, Feed(6))
    assert parameters(resumed) == parameters(straight)
    (tmp_path / "s_iter_3.solverstate").write_text("of a run before")
    stopped = make("Adam", prefix + " snapshot: 3")
    with pytest.raises(FormatError, match="a.png"):  # written once, with no word
        stopped.step(5, Disturbed(7, fail))
    resumed.restore(tmp_path / "s_iter_3")
    with pytest.raises(FormatError):  # before anything was learned
        make("Adam", prefix.replace("/s", "/t")).step(1, Disturbed(0, fail))
    assert not list(tmp_path.glob("t*"))


@pytest.mark.usefixtures("listening")
def test_a_signal_where_no_snapshot_is_wanted() -> None:
    solver = make()
    with pytest.raises(KeyboardInterrupt):
        solver.step(5, Disturbed(1, lambda: signal.raise_signal(signal.SIGINT)))
    assert solver.iteration == 2
