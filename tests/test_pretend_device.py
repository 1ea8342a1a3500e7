"""On a device that is not the CPU: nothing mixes the two, and the host waits where it has to."""

import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils import backend_registration

pytestmark = pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this torch takes no devices that are written in Python",
)


@pytest.mark.parametrize("part", ["refusal", "tables", "methods", "images", "training", "waits"])
def test_the_library_works_on_another_device(part: str) -> None:
    script = Path(__file__).parent / "_on_pretend_device.py"
    done = subprocess.run(
        [sys.executable, str(script), part], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
