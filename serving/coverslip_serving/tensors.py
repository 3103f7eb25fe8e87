"""Converts arrays to and from TensorFlow's tensors on the wire, without TensorFlow."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coverslip.errors import EngineError
from coverslip_serving._stubs.predict_pb2 import Tensor

_TYPES: dict[int, np.dtype[Any]] = {1: np.dtype("<f4"), 3: np.dtype("<i4"), 4: np.dtype(np.uint8)}
"""tensorflow.DataType: DT_FLOAT, DT_INT32, DT_UINT8."""
_NUMBERS = {kind: number for number, kind in _TYPES.items()}


def to_tensor(array: NDArray[Any]) -> Tensor:
    """An array as a tensor.

    Parameters
    ----------
    array : float32, int32 or uint8, any shape

    Raises
    ------
    EngineError
        The array has another type.
    """
    number = _NUMBERS.get(array.dtype.newbyteorder("<"))
    if number is None:
        raise EngineError(
            f"a model takes no arrays of {array.dtype}: expected float32, int32 or uint8"
        )
    tensor = Tensor(
        dtype=number, tensor_content=np.ascontiguousarray(array, dtype=_TYPES[number]).tobytes()
    )
    for size in array.shape:
        tensor.tensor_shape.dim.add(size=size)
    return tensor


def to_array(tensor: Tensor) -> NDArray[Any]:
    """A tensor as an array. A model server may fill either of the two fields that hold values.

    Raises
    ------
    EngineError
        The tensor has another type, or its values do not fill its shape.
    """
    kind = _TYPES.get(tensor.dtype)
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    if kind is None or min(shape, default=0) < 0:
        raise EngineError(
            f"the model server sent a tensor of type {tensor.dtype} and shape {shape}: expected "
            "float32, int32 or uint8"
        )
    count = prod(shape)
    if tensor.tensor_content:
        values = np.frombuffer(tensor.tensor_content, dtype=kind)
    else:
        listed = tensor.float_val if kind.kind == "f" else tensor.int_val
        values = np.fromiter(listed, dtype=kind, count=len(listed))
        if 0 < len(values) < count:
            # The last value stands for all omitted ones.
            values = np.pad(values, (0, count - len(values)), mode="edge")
    if len(values) != count:
        raise EngineError(f"the model server sent {len(values)} values for shape {shape}")
    return values.reshape(shape)
