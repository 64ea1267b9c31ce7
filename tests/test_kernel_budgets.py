"""No change makes a kernel cost more, by its machine code, than kernel_budgets.json allows.

Who makes one cheaper, or has to make one dearer, writes the file anew and says why:
``python benchmarks/gpu_model.py --write tests/kernel_budgets.json``.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from segaware_np.testing.cuda import nvrtc

FOLDER = Path(__file__).parents[1] / "benchmarks"
if not FOLDER.is_dir():
    pytest.skip("benchmarks/ is not here", allow_module_level=True)
with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(FOLDER))
    import gpu_model
    import machine_code

BUDGETS = json.loads((Path(__file__).parent / "kernel_budgets.json").read_text())
# Another compiler schedules a little differently.
ROOM = 1.1


@pytest.fixture(scope="module", autouse=True)
def tools() -> None:
    try:
        nvrtc.compiler(), machine_code.nvdisasm()
    except ImportError as error:
        pytest.skip(str(error))


def dearer(kernel: str, architecture: str, allowed: dict[str, int]) -> dict[str, tuple[int, int]]:
    """What of a kernel costs more than is allowed: (found, allowed)."""
    found = gpu_model.budget(kernel, architecture)._asdict()
    room = 1.0 if nvrtc.compiler().version == BUDGETS["nvrtc"] else ROOM
    return {
        name: (found[name], limit)
        for name, limit in allowed.items()
        if (found[name] * room < limit if name == "warps" else found[name] > limit * room)
    }


@pytest.mark.parametrize("architecture", [pytest.param("80", marks=pytest.mark.slow), "90"])
def test_kernels_keep_to_their_budgets(architecture: str) -> None:
    assert set(gpu_model.budgeted()) == set(BUDGETS[architecture])
    over = {
        kernel: found
        for kernel, allowed in BUDGETS[architecture].items()
        if (found := dearer(kernel, architecture, allowed))
    }
    assert over == {}


@pytest.mark.parametrize(
    ("kernel", "most"),
    [
        ("convolution<float, 64, true>", 700),
        ("convolution_tensor_cores<float, true>", 170),
        ("convolution_tensor_cores<__half, true>", 260),
    ],
)
def test_a_step_of_the_convolution_stays_short(kernel: str, most: int) -> None:
    assert gpu_model.budget(kernel, "90").step <= most


LISTING = """
.L_x_1:
        /*0000*/                   S2R R0, SR_TID.X ;
.L_x_2:
        /*0010*/                   LDG.E R2, [R4.64] ;
        /*0020*/                   FFMA R6, R2, R2, R6 ;
        /*0030*/              @!P0 FFMA R6, R2, R2, R6 ;
        /*0040*/               @P1 BRA `(.L_x_2) ;
        /*0050*/                   LDG.E R2, [R4.64] ;
.L_x_3:
        /*0060*/                   LDS R3, [R7] ;
        /*0070*/                   FFMA R6, R2, R3, R6 ;
        /*0080*/               @P2 BRA `(.L_x_3) ;
        /*0090*/               @P3 BRA `(.L_x_1) ;
        /*00a0*/                   EXIT ;
"""


def test_machine_code_is_read_as_it_is_written() -> None:
    usage = nvrtc.Usage(registers=100, spill_bytes=0, shared_bytes=20 << 10)
    code = machine_code._read(usage, LISTING)
    assert len(code.instructions) == 11
    assert [(loop.first, loop.last) for loop in code.loops] == [(1, 4), (6, 8), (0, 9)]
    assert code.step("FFMA", "LDG").kinds() == {"LDG": 1, "FFMA": 2, "BRA": 1}
    # Registers come by eights: 104 x 128 threads, four times into 65536; of 21 KiB ten fit.
    assert code.warps(128) == 4 * 4


def test_inner_loops_count_as_often_as_they_are_gone_through() -> None:
    only = LISTING.replace("BRA `(.L_x_2)", "NOP")
    code = machine_code._read(nvrtc.Usage(32, 0, 0), only)
    # One pass has 3 FFMA, one of them in a loop of 3 instructions: for 6 it goes on three times.
    step = code.step("FFMA", "LDG")
    assert code.issued(step, "FFMA", 6) == 10 + 3 * 3
    assert code.issued(step, "FFMA") == 10
