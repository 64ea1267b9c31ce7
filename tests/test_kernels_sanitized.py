"""The kernels under g++'s sanitizers: no access out of bounds, no overflow, no race."""

from __future__ import annotations

import pytest
from engine_checks import check_on_gpu, hot, launches
from hypothesis import HealthCheck, given, settings

from segaware_np.testing.cuda import emulate

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=emulate.SANITIZERS)
def sanitized(request):
    if emulate.compiler() is None:
        pytest.skip("no g++ to build the kernels with")
    if not emulate.has_sanitizer(request.param):
        pytest.skip(f"this g++ has no {request.param} sanitizer")
    from segaware_np.testing.cuda import fake_cupy

    with fake_cupy.installed(request.param) as stand_in:
        yield stand_in


@pytest.mark.parametrize("name", hot("gpu"))
@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(launch=launches())
def test_kernels_under_sanitizers(sanitized, name: str, launch: dict) -> None:
    check_on_gpu(sanitized, name, launch)
