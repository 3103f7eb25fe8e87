import subprocess
import sys


def test_importing_coverslip_is_light():
    """Under 0.3 s and without numpy, pydicom or TensorFlow; time is held loosely here, modules
    strictly.
    """
    code = (
        "import sys, coverslip; print([m for m in ('numpy', 'pydicom', 'tensorflow', "
        "'cryptography') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_core_and_the_console_need_no_tensorflow():
    code = (
        "import sys, coverslip.pipeline, coverslip.cli.embed, coverslip_edge.engine;"
        "print([m for m in ('tensorflow', 'grpc') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
