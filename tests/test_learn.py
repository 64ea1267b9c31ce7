"""The course that grades: every solution accepted, every mistake named, every odd file answered."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from command_line import fails, run
from mutations import edited

import segaware_np
from segaware_np import Window, learn, ops, optim
from segaware_np.commands.main import main
from segaware_np.layers import Parameter
from segaware_np.learn.examine import examine
from segaware_np.learn.exercise import load

GXX = shutil.which("g++")
PLANTED = [(name, i) for name in learn.ORDER for i in range(len(learn.find(name).mistakes))]


def needs_compiler(name):
    if name == "gather" and not GXX:
        pytest.skip("no C++ compiler")


@cache
def judge(name, text):
    needs_compiler(name)
    return examine(learn.find(name), text.encode(), f"{name}.py")


def with_answer(name, *lines, old=None):
    """The student's file with lines in the place of the empty answer."""
    text = learn.find(name).file
    blank = old or next(line for line in text.splitlines() if line.endswith(" = None"))
    assert text.count(blank) == 1
    return text.replace(blank, "\n".join(f"    {line}" for line in lines))


# ---- exercises ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", learn.ORDER)
def test_solution_is_accepted_without_a_remark(name):
    verdict = judge(name, learn.find(name).solution)
    assert verdict.solved, str(verdict)
    assert verdict.remarks == []


@pytest.mark.parametrize("name", learn.ORDER)
def test_file_as_given_has_no_answer_and_no_solution(name):
    exercise = learn.find(name)
    verdict = judge(name, exercise.file)
    assert "no answer yet" in verdict.message and not verdict.attempted
    imports = [n for n in ast.walk(ast.parse(exercise.file)) if isinstance(n, ast.Import)]
    assert [ast.unparse(line) for line in imports] in ([], ["import numpy as np"])
    assert not any(isinstance(n, ast.ImportFrom) for n in ast.walk(ast.parse(exercise.file)))
    assert len(exercise.file.splitlines()) < 90
    secret = exercise.answer.split("Your turn")[1].splitlines()[1].strip()
    assert secret not in exercise.file


@pytest.mark.parametrize("name", learn.ORDER)
def test_exercise_has_three_to_six_mistakes_with_words_of_their_own(name):
    messages = [mistake.message for mistake in learn.find(name).mistakes]
    assert 3 <= len(messages) <= 6
    assert len({*messages}) == len(messages)


@pytest.mark.parametrize(("name", "index"), PLANTED)
def test_planted_mistake_is_named(name, index):
    exercise = learn.find(name)
    mistake = exercise.mistakes[index]
    verdict = judge(name, exercise.mistaken(mistake))
    assert verdict.mistakes == [mistake.message], str(verdict)
    assert not verdict.solved and verdict.mark < 1


def test_table_of_mistakes_that_are_recognised():
    """Run with ``-s`` to see it."""
    print(f"\n{'exercise':<12} mistakes recognised")
    for name in learn.ORDER:
        if name == "gather" and not GXX:
            continue
        exercise = learn.find(name)
        verdicts = [judge(name, exercise.mistaken(mistake)) for mistake in exercise.mistakes]
        recognised = sum(bool(verdict.mistakes) for verdict in verdicts)
        print(f"{name:<12} {len(verdicts):>8} {recognised:>10}")
        assert recognised == len(verdicts)


def image(window):
    """The (O, C, 3, 3) form of a weight (O, C, 9)."""
    return window.reshape(*window.shape[:2], 3, 3)


SAME = Window.same(3)
TWINS = {  # what the library, or another formula, says of the same arguments
    "relu": lambda dy, x: ops.relu_backward(dy, ops.relu_forward(x)[1]),
    "softmax": lambda dy, score, label: ops.softmax_cross_entropy_backward(
        dy, ops.softmax_cross_entropy_forward(score, label)[1]
    ),
    "im2col": lambda dy, x: ops.im2col_backward(dy, ops.im2col_forward(x, SAME)[1]),
    "product": lambda dy, x, weight, bias: ops.convolution_backward(
        dy, ops.convolution_forward(x, image(weight), bias, window=SAME)[1]
    ),
    "stride": lambda dy, x, weight: ops.convolution_backward(
        dy, ops.convolution_forward(x, weight, window=Window(3, stride=2, pad=1))[1]
    )[:2],
    "pooling": lambda dy, x: ops.max_pool_backward(
        dy, ops.max_pool_forward(x, Window(2, stride=2))[1]
    ),
    "distance": lambda dy, e, norm: ops.distance_backward(
        dy, ops.distance_forward(e, SAME, norm=norm)[1]
    ),
    "exponential": lambda dy, d, s: ops.exponential_mask_backward(
        dy, ops.exponential_mask_forward(d, s)[1]
    ),
    "normalized": lambda dy, d, s: ops.normalized_mask_backward(
        dy, ops.normalized_mask_forward(d, s)[1]
    ),
    "segaware": lambda dy, x, mask, weight, bias: ops.segaware_convolution_backward(
        dy, ops.segaware_convolution_forward(x, mask, image(weight), bias, window=SAME)[1]
    ),
    "contrastive": lambda dy, d, same: ops.embedding_loss_backward(
        dy, ops.embedding_loss_forward(d, same)[1]
    ),
    "gather": lambda dy, mask: ops.masked_sum_backward(
        dy[None, None], ops.masked_sum_forward(dy[None, None], mask[None], SAME)[1]
    )[0],
}
TWINS["lean"] = TWINS["segaware"]


@pytest.mark.parametrize("name", TWINS)
def test_solution_computes_what_the_library_does(name):
    needs_compiler(name)
    exercise = learn.find(name)
    for seed in range(100, 110):
        trial = exercise.trial(seed)
        mine, theirs = exercise.run(exercise.solved, *trial), TWINS[name](*trial)
        mine, theirs = (a if isinstance(a, tuple) else (a,) for a in (mine, theirs))
        for got, want in zip(mine, theirs, strict=True):
            assert np.allclose(np.ravel(got), np.ravel(want), rtol=1e-10, atol=1e-12)


def test_solution_steps_as_the_library_does():
    exercise = learn.find("momentum")
    w, g, v, lr, momentum, decay = exercise.trial(100)
    parameter = Parameter(w.copy())
    solver = optim.SGD({"w": parameter}, lr, momentum=momentum, weight_decay=decay)
    for _ in range(2):
        parameter.grad = g.copy()
        solver.step()
    first, velocity = exercise.solved.step(w, g, 0 * v, lr, momentum, decay)
    second, _ = exercise.solved.step(first, g, velocity, lr, momentum, decay)
    assert np.allclose(parameter.data, second, rtol=1e-13)


# ---- answers ------------------------------------------------------------------------------------


def test_two_mistakes_at_once_are_both_named():
    lines = ["dx = dy @ weight", "dweight = dy.T @ x / len(x)", "dbias = dy.mean(0)"]
    verdict = judge("linear", with_answer("linear", *lines))
    assert verdict.results["dx"] == "right" and round(verdict.mark, 3) == 0.333
    assert [word.split()[1] for word in verdict.mistakes] == ["weight's", "bias"]


def test_two_mistakes_in_one_gradient_are_both_named():
    exercise = learn.find("distance")
    pair = exercise.mistakes[2], exercise.mistakes[4]  # the neighbour's sign, and the factor of L2
    verdict = judge("distance", exercise.mistaken(*pair))
    assert verdict.mistakes == [mistake.message for mistake in pair]


def test_mistake_that_spoils_two_gradients_is_told_once():
    exercise = learn.find("twice")
    verdict = judge("twice", exercise.mistaken(exercise.mistakes[0]))
    assert verdict.results["dx"].endswith(exercise.mistakes[0].message)
    assert verdict.results["db"].endswith("as for dx")


def test_what_is_not_written_yet_does_not_hide_what_is_right():
    verdict = judge("linear", with_answer("linear", "dweight = dbias = None", "dx = dy @ weight"))
    assert verdict.results["dx"] == "right"
    assert verdict.results["dbias"] == "is None: not written yet"
    assert verdict.attempted and not verdict.solved


def test_mistake_that_nobody_foresaw_is_told_by_its_pattern():
    verdict = judge("relu", with_answer("relu", "dx = 3 * dy * (x > 0)"))
    assert "every entry is 3 times the derivative" in verdict.results["dx"]
    assert verdict.mistakes == []


def test_answer_that_is_a_billionth_off_is_wrong():
    verdict = judge("relu", with_answer("relu", "dx = (1 + 1e-9) * dy * (x > 0)"))
    assert verdict.results["dx"].startswith("wrong")


def test_file_of_an_editor_that_marks_its_byte_order_is_known(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(learn.find("relu").solution, "utf-8-sig")
    assert learn.check(path).solved


def test_other_words_for_the_same_gradient_are_right():
    lines = ["dx = np.where(x > 0, dy, 0)"]
    assert judge("relu", with_answer("relu", *lines)).solved
    lines = ["dx = [[sum(g * w for g, w in zip(row, w)) for w in weight.T] for row in dy]"]
    lines += ["dweight = np.einsum('no,ni->oi', dy, x)", "dbias = np.ones(len(dy)) @ dy"]
    assert judge("linear", with_answer("linear", *lines)).solved


def test_columns_take_too_much_memory_where_there_are_to_be_none():
    text = learn.find("lean").solution
    text = text.replace("    dbias = dy", "    columns = np.stack(9 * [x]) + 1\n    dbias = dy")
    verdict = judge("lean", text)
    assert not verdict.solved
    assert list(verdict.results) == ["dx", "dmask", "dweight", "dbias", "memory"]


def test_float64_that_comes_out_of_float32_is_remarked():
    verdict = judge("relu", with_answer("relu", "dx = np.zeros(x.shape) + dy * (x > 0)"))
    assert verdict.solved and "dx comes back in another dtype" in verdict.remarks[0]


def test_forward_that_was_changed_is_told():
    text = learn.find("relu").solution.replace("np.maximum(x, 0)", "np.maximum(x, 0.1)")
    verdict = judge("relu", text)
    assert verdict.results["forward"].startswith("computes something else")
    assert not verdict.solved


def test_forward_may_keep_more():
    text = learn.find("relu").solution.replace("return y, x", "return y, (x, x > 0)")
    text = text.replace("(dy, x)", "(dy, cache)").replace("dy * (x > 0)", "dy * cache[1]")
    assert judge("relu", text).solved


RELU = learn.find("relu").file
SHAPE = learn.find("relu").trial(0)[0].shape
ODD = {
    "loops for ever": ("while True: pass", "not done after 2 seconds"),
    "prints for ever": ("while True: print('spam' * 99)", "not done after 2 seconds"),
    "raises": ("dx = dy @ undefined", "NameError: name 'undefined' is not defined"),
    "shows the line": ("dx = dy + x[:, :2]", "dx = dy + x[:, :2]\nValueError"),
    "exits": ("exit()", "leave out exit()"),
    "exits hard": ("import os; os._exit(3)", "exit status 3"),
    "ends with 0": ("import os; os._exit(0)", "exit status 0"),
    "crashes": ("import os; os.kill(os.getpid(), 11)", "made Python crash (SIGSEGV)"),
    "interrupts": ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    "recurses": ("return backward(dy, x)", "RecursionError"),
    "takes all memory": ("dx = np.empty(2 * 10**8)", "out of the memory"),
    "asks": ("dx = input('dx?')", "EOFError"),
    "returns None": ("return None", "no answer yet"),
    "returns two": ("return dy, dy", "expected 1 results (dx), got 2"),
    "returns text": ("dx = 'dx'", f"has shape (), expected {SHAPE}"),
    "returns another shape": ("dx = dy[0]", f"has shape {SHAPE[1:]}, expected {SHAPE}"),
    "returns integers": ("dx = (dy > 0).astype(int)", "has dtype int64, expected float64"),
    "returns objects": ("dx = (dy * (x > 0)).astype(object)", "has dtype object"),
    "returns complex": ("dx = dy * (x > 0) + 0j", "has dtype complex128, expected float64"),
    "returns float32": ("dx = (dy * (x > 0)).astype('f4')", "has dtype float32, expected float64"),
    "returns a list": ("dx = [1.0, 2.0]", f"has shape (2,), expected {SHAPE}"),
    "returns NaN": ("dx = dy * np.nan", "values that are not finite"),
    "writes to dy": ("dy *= x > 0; dx = dy", "wrote to its argument d_output"),
    "writes to its cache": ("x[...] = dx = dy * (x > 0)", "wrote to its argument x"),
    "remembers": ("x.n = 1; dx = dy * (x > 0)", "AttributeError"),
}  # fmt: skip
WHOLE = {
    "is not Python": ("def backward(:\n", "this is not Python, line 1: "),
    "is in the middle of a word": ('"""Exercise 2, relu: ReLU\n', "this is not Python, line 1: "),
    "is binary": ("\0\1\2", "null bytes"),
    "is empty": ("", "there is no forward in this file"),
    "has lost its answer": (RELU.replace("def backward", "def backwards"), "there is no backward"),
    "is the answer as a number": (RELU + "\nbackward = 3\n", "'int' object is not callable"),
    "raises at the start": ("raise ValueError('mine')", "line 1: raise ValueError('mine')"),
    "imports what is not there": ("import torchvision3", "No module named 'torchvision3'"),
}


def odd_files():
    for title, (answer, words) in ODD.items():
        yield pytest.param(RELU.replace("    dx = None", f"    {answer}"), words, id=title)
    for title, (text, words) in WHOLE.items():
        yield pytest.param(text, words, id=title)


@pytest.mark.parametrize(("text", "words"), list(odd_files()))
def test_odd_file_is_answered_kindly(text, words, tmp_path):
    if "10**8" in text and sys.platform != "linux":
        pytest.skip("memory is limited on Linux only")
    path = tmp_path / "relu.py"
    path.write_text(text)
    seconds = 2 if "2 seconds" in words else 60
    verdict = learn.check(path, seconds=seconds)
    assert not verdict.solved
    assert words in "\n".join([verdict.message, *verdict.results.values()])
    assert "Traceback" not in str(verdict)


def test_what_a_file_prints_is_shown_once_and_cut(tmp_path):
    path = tmp_path / "relu.py"
    path.write_text(RELU.replace("    dx = None", "    dx = dy; print('here', dy.shape)"))
    assert learn.check(path).printed == f"here {SHAPE}\n"
    path.write_text(RELU.replace("    dx = None", "    dx = dy; print('spam' * 10**6)"))
    verdict = learn.check(path)
    assert verdict.message == "" and len(verdict.printed) < 5000
    assert verdict.printed.endswith("and more")


def test_what_a_file_leaves_for_its_end_is_not_done(tmp_path):
    path = tmp_path / "relu.py"
    code = "import atexit; atexit.register(print, 'bye'); dx = dy * (x > 0)"
    path.write_text(RELU.replace("    dx = None", f"    {code}"))
    verdict = learn.check(path)
    assert verdict.solved and verdict.printed == ""


def test_file_that_asks_does_not_get_what_is_typed_to_the_program(tmp_path):
    path = tmp_path / "relu.py"
    path.write_text(RELU.replace("    dx = None", "    dx = float(input())"))
    command = [sys.executable, "-m", "segaware_np", "learn", "check", str(path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        command, input="1\n" * 999, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 1 and "EOFError" in done.stdout


@pytest.mark.skipif(os.name != "posix", reason="process groups are POSIX's")
def test_what_a_file_starts_ends_with_it(tmp_path):
    note = tmp_path / "pid"
    code = "import subprocess, time; child = subprocess.Popen(['sleep', '600']); "
    code += f"open({str(note)!r}, 'w').write(str(child.pid)); time.sleep(600)"
    path = tmp_path / "relu.py"
    path.write_text(RELU.replace("    dx = None", f"    {code}"))
    assert "not done after 3 seconds" in learn.check(path, seconds=3).message
    pid = int(note.read_text())
    deadline = time.monotonic() + 60
    while alive(pid):
        assert time.monotonic() < deadline, "it goes on"
        time.sleep(0.05)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not (status.exists() and ") Z " in status.read_text())  # dead, and nobody has asked


def test_file_beside_others_does_not_take_the_place_of_a_library(tmp_path):
    (tmp_path / "numpy.py").write_text("raise ImportError('a student called it so')")
    (tmp_path / "relu.py").write_text(learn.find("relu").solution)
    assert learn.check(tmp_path / "relu.py").solved


def test_kernel_that_does_not_compile_or_writes_outside_is_told():
    needs_compiler("gather")
    text = learn.find("gather").solution
    broken = text.replace("float sum = 0;", "float sum")
    assert "does not compile" in judge("gather", broken).message
    outside = text.replace("dx[q] = sum;", "dx[q] = sum; dx[height * width] = 1;")
    assert "writes outside its arrays" in judge("gather", outside).message


def test_kernel_is_skipped_by_name_without_a_compiler(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CXX", "no-such-compiler")
    path = tmp_path / "gather.py"
    path.write_text(learn.find("gather").solution)
    verdict = learn.check(path)
    assert (verdict.state, verdict.mark) == ("skipped", 0)
    assert "install g++" in verdict.message
    assert run(capsys, "learn", "check", path).startswith("gather: skipped")


# ---- random edits -------------------------------------------------------------------------------


def outcome(exercise, work, seed):
    found = exercise.run(work, *exercise.trial(seed))
    return [np.asarray(a, float) for a in (found if isinstance(found, tuple) else (found,))]


def differs(exercise, text):
    """Whether an edited file computes something else than the solution, on draws of its own."""
    try:
        with np.errstate(all="ignore"):
            work = load(text, "edited")
            for seed in range(1000, 1010):
                mine, right = (outcome(exercise, one, seed) for one in (work, exercise.solved))
                for got, want in zip(mine, right, strict=True):
                    if got.shape != want.shape or not (abs(got - want) <= 1e-9).all():
                        return True
    except Exception:  # it computes nothing: no test of the comparison
        return False
    return False


KERNEL_EDITS = [
    ("k < 9", "k < 7"), ("k = 0; k", "k = 1; k"), ("k / 3 - 1", "k / 3 + 1"),
    ("k % 3 - 1", "k / 3 - 1"), ("row >= 0", "row > 0"), ("row < height", "row <= height"),
    ("column >= 0", "column >= 1"), ("column < width", "column <= width"), ("dy[p]", "dy[q]"),
    ("float sum = 0", "float sum = 1"), ("sum += mask", "sum -= mask"), ("row * width", "row"),
    ("sum += mask", "sum = mask"), ("height * width + p", "height + p"), ("* dy[p]", "+ dy[p]"),
    ("dx[q] = sum", "dx[q + 1] = sum"), ("q += step", "q += 2 * step"),
    ("dx[q] = sum", "dx[q] = (int)(sum / 2)"), ("blockIdx.x * blockDim.x", "blockIdx.x"),
    ("q / width", "q / height"), ("q % width", "q % height"), ("dx[q] = sum", "dx[0] = sum"),
]  # fmt: skip


@pytest.mark.slow
def test_no_random_edit_of_a_solution_is_accepted_and_none_crashes_the_check(tmp_path):
    rng = np.random.default_rng(0)
    texts = {}
    if GXX:
        gather = learn.find("gather")
        for old, new in KERNEL_EDITS:
            assert gather.answer.count(old) == 1, old
            texts[gather.solution.replace(old, new)] = "gather"
    names = [name for name in learn.ORDER if name != "gather"]
    while len(texts) < 240:
        exercise = learn.find(names[len(texts) % len(names)])
        text = exercise.solution.replace(exercise.answer, edited(exercise.answer, rng))
        if differs(exercise, text):
            texts[text] = exercise.name
    paths = []
    for i, (text, name) in enumerate(texts.items()):
        paths.append(tmp_path / f"{i}_{name}.py")
        paths[-1].write_text(text)
    with ThreadPoolExecutor(2) as pool:
        verdicts = list(pool.map(lambda path: learn.check(path, seconds=60), paths))
    told = [verdict for verdict in verdicts if verdict.results or verdict.message]
    assert len(told) == len(paths)
    accepted = [path.read_text() for path, one in zip(paths, verdicts, strict=True) if one.solved]
    assert accepted == []
    crashes = [one.message for one in verdicts if "exit status" in one.message]
    assert crashes == []
    named = sum(bool(verdict.mistakes) for verdict in verdicts)
    print(f"\n{len(paths)} edits: none accepted, {named} named as a planted mistake")


# ---- the program --------------------------------------------------------------------------------


def stops(capsys, *arguments):
    """Run a command that finds something not right yet."""
    with pytest.raises(SystemExit) as stopped:
        main(list(map(str, arguments)))
    assert stopped.value.code == 1
    return capsys.readouterr().out


def test_student_goes_from_the_list_to_the_second_exercise(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert "0 of 17 solved. Next: segaware learn start linear" in run(capsys, "learn")
    assert "segaware learn check linear.py" in run(capsys, "learn", "start")
    assert "no answer yet" in stops(capsys, "learn", "check")
    assert "try it first" in fails(capsys, "learn", "solution")
    assert "matrix product" in run(capsys, "learn", "hint")
    path = Path("linear.py")
    wrong = learn.find("linear").solution.replace("np.sum(dy, 0)", "np.mean(dy, 0)")
    path.write_text(wrong)
    assert "yours is their mean" in stops(capsys, "learn", "check", "linear.py")
    assert "1 attempt\n" in run(capsys, "learn", "list")
    assert "dbias = np.sum(dy, 0)" in run(capsys, "learn", "solution", "linear")
    path.write_text(learn.find("linear").solution)
    out = run(capsys, "learn", "check")
    assert out.startswith("linear: solved") and "Next: segaware learn start relu" in out
    run(capsys, "learn", "start", "2", "more")
    assert Path("more", "relu.py").is_file()
    assert "1 of 17 solved" in run(capsys, "learn", "list")
    assert "0 of 17 solved" in run(capsys, "learn", "list", "more")


def test_course_has_an_end(tmp_path, capsys):
    learn.Progress(tmp_path, solved=list(learn.ORDER)).write()
    assert "17 of 17 solved. That is all of them" in run(capsys, "learn", "list", tmp_path)


def test_next_is_what_follows_the_exercise_at_hand_and_goes_on_where_it_was_left(tmp_path, capsys):
    run(capsys, "learn", "start", "relu", tmp_path)
    (tmp_path / "relu.py").write_text(learn.find("relu").solution)
    out = run(capsys, "learn", "check", tmp_path / "relu.py")
    assert f"Next: segaware learn start twice {tmp_path}\n" in out
    (tmp_path / "twice.py").write_text(learn.find("twice").file)
    assert f"Next: segaware learn check {tmp_path / 'twice.py'}" in run(
        capsys, "learn", "list", tmp_path
    )
    progress = learn.Progress.read(tmp_path)
    progress.solved, progress.current = list(learn.ORDER[1:]), "momentum"
    assert progress.next == "linear"


def test_work_is_never_overwritten(tmp_path, capsys):
    run(capsys, "learn", "start", "relu", tmp_path)
    (tmp_path / "relu.py").write_text("mine")
    assert "is there already" in fails(capsys, "learn", "start", "relu", tmp_path)
    assert (tmp_path / "relu.py").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["start", "relux"], "expected an exercise (linear, relu, "),
        (["start", "18"], "expected an exercise"),
        (["check"], "no exercise at hand in this folder"),
        (["hint"], "no exercise at hand in this folder"),
        (["check", "none.py"], "No such file or directory: none.py"),
        (["check", "."], "no Python file in ."),
        (["check", "--seconds", "0"], "--seconds: expected a number above 0"),
        (["check", "--megabytes", "x"], "--megabytes: expected a whole number"),
    ],
)
def test_wrong_arguments_are_told_in_a_line(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert words in fails(capsys, "learn", *arguments)


@pytest.mark.parametrize("text", ["", "[]", '{"attempts": 3, "solved": [], "current": null}'])
def test_damaged_progress_is_told(text, tmp_path, capsys):
    (tmp_path / "segaware_learn.json").write_text(text)
    assert "segaware_learn.json: damaged" in fails(capsys, "learn", "list", tmp_path)


def test_marks_of_a_folder(tmp_path, capsys):
    linear, relu = learn.find("linear"), learn.find("relu")
    files = {
        "ada/linear.py": linear.solution,
        "ada/relu.py": relu.solution,
        "bob/exercise1.py": linear.mistaken(linear.mistakes[0]),
        "bob/relu.py": "def backward(",
        "eve_relu.py": "while True: pass",
        "notes.py": "print('no exercise')",
        ".venv/relu.py": "raise SystemExit",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    lines = stops(capsys, "learn", "check", tmp_path / "bob").splitlines()
    assert lines[0].split() == ["file", "exercise", "mark", "what", "is", "wrong"]
    assert lines[1].split()[1:4] == ["linear", "0.67", "dbias:"]
    found = json.loads(stops(capsys, "learn", "check", tmp_path, "--seconds", 4, "--json"))
    marks = {Path(one["file"]).relative_to(tmp_path).as_posix(): one for one in found}
    assert {name: one["mark"] for name, one in marks.items()} == {
        "ada/linear.py": 1, "ada/relu.py": 1, "bob/exercise1.py": 0.667, "bob/relu.py": 0,
        "eve_relu.py": 0, "notes.py": 0,
    }  # fmt: skip
    assert marks["bob/exercise1.py"]["mistakes"] == [linear.mistakes[0].message]
    assert marks["bob/exercise1.py"]["exercise"] == "linear"
    assert marks["eve_relu.py"]["message"].startswith("not done after 4 seconds")
    assert marks["notes.py"]["exercise"] is None
    assert not list(tmp_path.rglob("*.json"))  # a teacher leaves nothing behind


def test_what_is_no_file_in_a_folder_of_a_class_is_passed_over(tmp_path):
    (tmp_path / "tile.py").mkdir()
    os.mkfifo(tmp_path / "pool.py")
    (tmp_path / "relu.py").write_text("")
    assert [path.name for path in learn.submissions(tmp_path)] == ["relu.py"]


def test_limits_must_be_positive(tmp_path):
    with pytest.raises(ValueError, match="seconds, megabytes: expected positive, got 0 and 1024"):
        learn.check(tmp_path / "relu.py", seconds=0)


def test_the_core_knows_nothing_of_the_course():
    home = Path(segaware_np.__file__).parent
    outside = [path for path in home.rglob("*.py") if "learn" not in str(path.relative_to(home))]
    assert [path for path in outside if "segaware_np.learn" in path.read_text("utf-8")] == []


def test_the_page_lists_the_exercises_in_their_order():
    page = Path(__file__).parent.parent / "docs" / "learn.md"
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \|", page.read_text("utf-8"), re.MULTILINE)
    assert rows == [(str(i), name) for i, name in enumerate(learn.ORDER, 1)]
