from __future__ import annotations

import threading
import time

import pytest

from coverslip_serving.capacity import Capacity, Limits
from coverslip_serving.deadline import Deadline
from coverslip_serving.errors import BusyError, CancelledError, DeadlinePassedError, TooLargeError
from tests.serving.conftest import until


def soon(seconds=5.0, alive=True):
    return Deadline(time.monotonic() + seconds, lambda: alive)


def test_calls_and_memory_are_given_back():
    room = Capacity(Limits(calls=1, memory=100))
    for _ in range(3):
        with room.call(), pytest.raises(BusyError), room.call():
            raise AssertionError
        with room.memory(60), pytest.raises(BusyError), room.memory(60):
            raise AssertionError
        with pytest.raises(TooLargeError), room.memory(101):
            raise AssertionError
    with room.call(), room.memory(100):
        assert room.calls == 1
    assert room.calls == 0


def test_turns_are_first_come_first_served():
    room, order, threads = Capacity(Limits(parallel=1)), [], []

    def work(number):
        with room.turn(soon()):
            order.append(number)

    with room.turn(soon()):
        for number in range(8):
            threads.append(threading.Thread(target=work, args=(number,)))
            threads[-1].start()
            until(lambda waiting=number + 1: room.waiting == waiting)
    for thread in threads:
        thread.join()
    assert order == list(range(8))


@pytest.mark.parametrize(
    ("deadline", "kind"), [((0.05, True), DeadlinePassedError), ((5.0, False), CancelledError)]
)
def test_who_gives_up_leaves_no_gap_in_the_queue(deadline, kind):
    room = Capacity(Limits(parallel=1))
    with room.turn(soon()), pytest.raises(kind), room.turn(soon(*deadline)):
        raise AssertionError
    with pytest.raises(kind), room.turn(soon(-1.0 if deadline[1] else 5.0, deadline[1])):
        raise AssertionError
    with room.turn(soon(0.5)):
        pass
