import pickle
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from coverslip.errors import EngineError, ModelMissingError
from coverslip.scheme.reference import measure_plane
from coverslip_edge.engine import RUNTIMES, LiteRtEngine, load_interpreter
from tests.graph.conftest import outline_bright
from tests.graph.planes import RANGES, reference, request, stack


@pytest.fixture(params=RUNTIMES)
def engine(released: Path, request: pytest.FixtureRequest) -> LiteRtEngine:
    pytest.importorskip(request.param)
    return LiteRtEngine(released / "coverslip.tflite", runtimes=(request.param,))


def test_results_have_the_promised_types_and_shapes(engine: LiteRtEngine) -> None:
    wanted = request("scene", 33, 47, (0, 4095), 1)
    segmented, embedded = engine.segment(wanted.pixels), engine.embed(wanted)
    measured = engine.extract(embedded.stego, wanted.step)
    assert segmented.mask.dtype == embedded.mask.dtype == measured.mask.dtype == np.uint8
    assert segmented.mask.shape == embedded.stego.shape == measured.mask.shape == (1, 33, 47)
    assert segmented.score.dtype == np.float32 and segmented.score.shape == (1,)
    assert embedded.stego.dtype == np.int32
    assert embedded.carriers.dtype == np.uint8 and embedded.carriers.shape == (1, 8, 11)
    assert measured.phases.dtype == np.uint8 and measured.phases.shape == (1, 8, 11, 16)


def test_outline_embedding_and_phases_are_those_of_numpy(engine: LiteRtEngine) -> None:
    wanted = request("scene", 33, 47, (0, 4095), 1)
    embedded = engine.embed(wanted)
    mask = outline_bright(wanted.pixels[0])
    assert 0 < mask.sum() < mask.size
    np.testing.assert_array_equal(engine.segment(wanted.pixels).mask[0], mask)
    np.testing.assert_array_equal(embedded.mask[0], mask)
    stego, carriers = reference(wanted, mask[np.newaxis])
    assert carriers.any()
    np.testing.assert_array_equal(embedded.carriers, carriers)
    np.testing.assert_array_equal(embedded.stego, stego)
    phases = engine.extract(stego, wanted.step).phases[0]
    expected = measure_plane(stego[0], float(wanted.step[0]))
    assert np.abs((phases - expected).astype(np.int8)).max() <= 1


@pytest.mark.parametrize("legal", RANGES)
def test_the_number_of_threads_changes_nothing(released: Path, legal: tuple[int, int]) -> None:
    wanted = request("scene", 130, 117, legal, 5, votes=20, step=4.9)
    first, *others = [
        LiteRtEngine(released / "coverslip.tflite", threads=threads) for threads in (1, 2, 3)
    ]
    embedded = first.embed(wanted)
    phases = first.extract(wanted.pixels, wanted.step).phases
    for other in others:
        np.testing.assert_array_equal(other.embed(wanted).stego, embedded.stego)
        np.testing.assert_array_equal(other.extract(wanted.pixels, wanted.step).phases, phases)


def test_images_of_changing_sizes_do_not_disturb_each_other(engine: LiteRtEngine) -> None:
    sizes = [(40, 64), (64, 40), (40, 64), (9, 9), (130, 70), (40, 64)]
    outs = [engine.embed(request("scene", *size, (0, 4095), 2)) for size in sizes]
    np.testing.assert_array_equal(outs[0].stego, outs[2].stego)
    np.testing.assert_array_equal(outs[0].stego, outs[5].stego)


def test_threads_take_turns(engine: LiteRtEngine) -> None:
    wanted = [request("scene", 64 + 4 * index, 64, (0, 4095), index) for index in range(4)]
    expected = [engine.embed(one).stego for one in wanted]
    found: list[NDArray[np.int32] | None] = [None] * 4

    def work(index: int) -> None:
        for _ in range(3):
            found[index] = engine.embed(wanted[index]).stego

    workers = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for one, other in zip(expected, found, strict=True):
        assert other is not None
        np.testing.assert_array_equal(one, other)


def test_a_missing_model_says_where_to_put_one(tmp_path: Path) -> None:
    with pytest.raises(ModelMissingError, match=r"coverslip\.tflite"):
        LiteRtEngine(tmp_path / "none.tflite").segment(np.zeros((1, 8, 8), np.int32))


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "coverslip.tflite").write_bytes(b"no model at all" * 9)
    with pytest.raises(EngineError, match="not a model"):
        LiteRtEngine(tmp_path / "coverslip.tflite").segment(np.zeros((1, 8, 8), np.int32))


def test_no_runtime_says_what_to_install(released: Path) -> None:
    with pytest.raises(EngineError, match="pip install"):
        load_interpreter(released / "coverslip.tflite", 1, ("no_such_runtime.interpreter",))


def test_the_second_runtime_is_used_if_the_first_is_missing(released: Path) -> None:
    pytest.importorskip(RUNTIMES[0])
    engine = LiteRtEngine(
        released / "coverslip.tflite", runtimes=("no_such_runtime.interpreter", RUNTIMES[0])
    )
    assert engine.segment(np.zeros((1, 8, 8), np.int32)).mask.shape == (1, 8, 8)


def test_the_wrong_shape_is_refused_and_the_engine_keeps_working(engine: LiteRtEngine) -> None:
    with pytest.raises(EngineError, match="at least 4 x 4"):
        engine.segment(np.zeros((1, 2, 2), np.int32))
    assert engine.segment(np.zeros((1, 8, 8), np.int32)).mask.shape == (1, 8, 8)


ALONE = """
import pickle, sys
import numpy as np
from coverslip_edge.engine import LiteRtEngine
wanted = pickle.loads(sys.stdin.buffer.read())
engine = LiteRtEngine(sys.argv[1], runtimes=(sys.argv[2],))
done = engine.embed(wanted)
measured = engine.extract(done.stego, wanted.step)
assert "tensorflow" not in sys.modules
np.savez(
    sys.argv[3], stego=done.stego, mask=done.mask, carriers=done.carriers, phases=measured.phases
)
"""


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("legal", RANGES)
def test_alone_in_its_process_a_runtime_does_what_the_reference_does(
    released: Path, tmp_path: Path, runtime: str, legal: tuple[int, int]
) -> None:
    # Beside TensorFlow in one process, tflite-runtime takes TensorFlow's kernels, which are newer,
    # for its own.
    pytest.importorskip(runtime.split(".", maxsplit=1)[0])
    wanted = stack(
        *(request("scene", 130, 117, legal, seed, votes=4, step=4.9) for seed in range(3))
    )
    words = [
        sys.executable,
        "-c",
        ALONE,
        str(released / "coverslip.tflite"),
        runtime,
        str(tmp_path / "done.npz"),
    ]
    done = subprocess.run(words, check=False, capture_output=True, input=pickle.dumps(wanted))
    assert done.returncode == 0, done.stderr.decode()
    with np.load(tmp_path / "done.npz") as found:
        stego, carriers = reference(wanted, found["mask"])
        np.testing.assert_array_equal(found["carriers"], carriers)
        assert (
            np.count_nonzero(found["stego"] != stego) <= stego.size // 10**5
            and np.abs(found["stego"] - stego).max() <= 1
        )
        for number, plane in enumerate(found["stego"]):
            expected = measure_plane(plane, float(wanted.step[number]))
            assert np.abs((found["phases"][number] - expected).astype(np.int8)).max() <= 1


def test_it_works_without_tensorflow(released: Path) -> None:
    code = (
        "import sys, numpy as np; sys.modules['tensorflow'] = None; from coverslip_edge.engine "
        "import LiteRtEngine;"
        f"LiteRtEngine({str(released / 'coverslip.tflite')!r}).extract(np.zeros((1, 8, 8), "
        "np.int32), np.ones(1, np.float32))"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode
        == 0
    )
