"""Find the external-data locations that an ONNX file names, without the onnx package.

Only what is needed of protobuf's wire format: fields by number, lengths, varints. The numbers are
those of onnx.proto: ``ModelProto`` ``graph`` 7, ``training_info`` 20, ``functions`` 25;
``GraphProto`` ``node`` 1, ``initializer`` 5, ``sparse_initializer`` 15; ``TrainingInfoProto``
``initialization`` 1, ``algorithm`` 2; ``FunctionProto`` ``node`` 7, ``attribute_proto`` 11;
``NodeProto.attribute`` 5; ``AttributeProto`` ``t`` 5, ``g`` 6, ``tensors`` 10, ``graphs`` 11,
``sparse_tensor`` 22, ``sparse_tensors`` 23; ``SparseTensorProto`` ``values`` 1, ``indices`` 2;
``TensorProto.external_data`` 13.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ...errors import BundleCorrupted

_MODEL, _TRAINING, _GRAPH, _NODE, _ATTRIBUTE, _FUNCTION, _SPARSE, _TENSOR = range(8)
_CHILDREN = {
    _MODEL: {7: _GRAPH, 20: _TRAINING, 25: _FUNCTION},
    _TRAINING: {1: _GRAPH, 2: _GRAPH},
    _GRAPH: {1: _NODE, 5: _TENSOR, 15: _SPARSE},
    _FUNCTION: {7: _NODE, 11: _ATTRIBUTE},
    _NODE: {5: _ATTRIBUTE},
    _ATTRIBUTE: {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH, 22: _SPARSE, 23: _SPARSE},
    _SPARSE: {1: _TENSOR, 2: _TENSOR},
}


def external_locations(path: Path) -> set[str]:
    """Every file that tensors of the ONNX file at ``path`` point to, as written there.

    Raises:
        BundleCorrupted: the file does not read as protobuf.
    """
    found: set[str] = set()
    try:
        _walk(memoryview(path.read_bytes()), _MODEL, found, 0)
    except (IndexError, ValueError, UnicodeDecodeError) as error:
        raise BundleCorrupted(path.name, f"is not an ONNX graph ({error})") from error
    return found


def _walk(data: memoryview, kind: int, found: set[str], depth: int) -> None:
    if depth > 32:
        raise ValueError("nested too deep")
    for number, value in _fields(data):
        if kind == _TENSOR:
            if number == 13:
                entry = dict(_fields(value))
                if bytes(entry.get(1, b"")) == b"location":
                    found.add(bytes(entry.get(2, b"")).decode())
        elif number in _CHILDREN[kind]:
            _walk(value, _CHILDREN[kind][number], found, depth + 1)


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and content of every length-delimited field; others are stepped over."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        wire = key & 7
        if wire == 2:
            length, at = _varint(data, at)
            if at + length > len(data):
                raise ValueError("cut off")
            yield key >> 3, data[at : at + length]
            at += length
        elif wire == 0:
            _, at = _varint(data, at)
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("varint too long")
