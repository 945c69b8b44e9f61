"""TensorFlow checkpoints (`tf_model.h5`, as Keras 2 wrote it for transformers 4) -> tensors under PyTorch's names.

Layout: the file's attribute `layer_names` names groups; a group's attribute `weight_names` names its datasets, as
`<model>/<module>/layer_._<i>/.../<kind>:0`. Long lists are cut into `weight_names0`, `weight_names1`, ... A tensor that
two layers share is in both groups.
Source: tf_keras.saving.legacy.hdf5_format.save_weights_to_hdf5_group; names and transposes as in transformers 4.45
modeling_tf_pytorch_utils.convert_tf_weight_name_to_pt_weight_name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lat_export.errors import InputError, MissingError, first_line

if TYPE_CHECKING:
    import torch

WHERE = {"stage": "load"}
PYTORCH_KINDS = {"kernel": "weight", "embeddings": "weight", "gamma": "weight", "beta": "bias"}


def read_keras_weights(path: Path) -> dict[str, torch.Tensor]:
    """
    Returns:
        Every tensor of the file in float32, by PyTorch's parameter name; kernels of dense layers transposed to
        (out, in).
    Raises:
        MissingError: h5py is not installed.
        InputError: no HDF5 file, not laid out by Keras, or two different tensors under one name.
    """
    try:
        import h5py
    except ImportError as error:
        raise MissingError(
            "h5py is not installed, and TensorFlow checkpoints are HDF5 files",
            got=path.name,
            hint="pip install 'lat-export[h5]'",
            where=WHERE,
        ) from error
    try:
        with h5py.File(path, "r") as file:
            return _tensors(file)
    except (OSError, KeyError, RuntimeError) as error:
        raise InputError(
            "the file is truncated, damaged, or no HDF5 file that Keras wrote",
            got=f"{path.name}: {first_line(error)}",
            expected="tf_model.h5 of a TFLongformer model",
            where=WHERE,
        ) from error


def _tensors(file: Any) -> dict[str, torch.Tensor]:
    import numpy as np
    import torch

    found: dict[str, torch.Tensor] = {}
    for layer in _names(file, "layer_names"):
        for keras_name in _names(file[layer], "weight_names"):
            array = np.asarray(file[layer][keras_name], dtype=np.float32)
            tensor = torch.from_numpy(array.T.copy() if keras_name.endswith("/kernel:0") else array)
            name = pytorch_name(keras_name)
            if name in found and not torch.equal(found[name], tensor):
                raise InputError("the file has two different tensors of one name", got=keras_name, where=WHERE)
            found[name] = tensor
    return found


def _names(group: Any, attribute: str) -> Iterator[str]:
    """A list of strings, whole or cut into numbered parts."""
    parts = [attribute] if attribute in group.attrs else []
    while f"{attribute}{len(parts)}" in group.attrs:
        parts.append(f"{attribute}{len(parts)}")
    if not parts:
        raise KeyError(f"no attribute {attribute}")
    for part in parts:
        for name in group.attrs[part]:
            yield name.decode() if isinstance(name, bytes) else str(name)


def pytorch_name(keras_name: str) -> str:
    """`tf_longformer_model/longformer/encoder/layer_._0/output/dense/kernel:0` -> `longformer.encoder.layer.0....`"""
    path = re.sub(r":\d+$", "", keras_name).replace("_._", "/")
    *modules, kind = path.split("/")[1:]
    return ".".join([*modules, PYTORCH_KINDS.get(kind, kind)])
