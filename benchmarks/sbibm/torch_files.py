"""Arrays in files that `torch.save` wrote before its zip format, without PyTorch."""

import pickle

import numpy as np

_KINDS = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "BoolStorage": np.bool_,
}


class Record:
    """An object of any class: only its attributes are kept."""

    def __init__(self, *args):
        pass

    def __setstate__(self, state):
        if isinstance(state, dict):
            self.__dict__.update(state)


class Tensor:
    """A view of a storage, which the file holds behind the objects."""

    def __init__(self, storage, offset, size, stride, *_):
        self.storage, self.offset, self.size, self.stride = (
            storage,
            offset,
            size,
            stride,
        )

    def array(self, storages):
        values = storages[self.storage]
        strides = [step * values.itemsize for step in self.stride]
        view = np.lib.stride_tricks.as_strided(
            values[self.offset :], self.size, strides
        )
        return view.copy()


def load(path):
    """Returns the object saved in a file, and its storages by key.

    Each tensor in it is a `Tensor`; no class of the file is imported.
    """
    kinds = {}

    class Reader(pickle.Unpickler):
        def find_class(self, module, name):
            if name in _KINDS:
                return name
            return (
                Tensor if name.startswith("_rebuild_tensor") else _found(module, name)
            )

        def persistent_load(self, pid):
            kinds[pid[2]] = _KINDS[pid[1]]
            return pid[2]

    with open(path, "rb") as file:
        for _ in range(3):  # magic number, protocol, system
            pickle.load(file)
        value = Reader(file).load()
        storages = {}
        for key in pickle.load(file):
            count = int.from_bytes(file.read(8), "little")
            kind = np.dtype(kinds[key])
            storages[key] = np.frombuffer(file.read(count * kind.itemsize), kind)
    return value, storages


def array(path):
    """Returns the array of a file that holds one tensor."""
    value, storages = load(path)
    return value.array(storages)


def _found(module, name):
    if (module, name) == ("collections", "OrderedDict"):
        return dict
    return type(name, (Record,), {"__module__": module})
