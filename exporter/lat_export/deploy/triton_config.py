"""config.pbtxt of the models of a repository. Fields: `message ModelConfig` of Triton's model_config.proto."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lat_export.deploy import pbtxt
from lat_export.deploy.pbtxt import Comment, Message, Word
from lat_export.types import Signature, TensorSpec

if TYPE_CHECKING:
    from lat_export.deploy.triton import Tensors
    from lat_export.deploy.triton_warmup import Warmup

DTYPES = {"int64": "TYPE_INT64", "int32": "TYPE_INT32", "float32": "TYPE_FP32", "float16": "TYPE_FP16"}
# Requests of text are tokenised one by one; as many may be under way at a time.
TEXT_INSTANCES = 2
QUESTION = ("question", "TYPE_STRING", 1)
CHOICES = ("choices", "TYPE_STRING", -1)
MORE_TEXT = {"question-answering": (QUESTION,), "multiple-choice": (CHOICES,)}


def tensors_config(tensors: Tensors) -> str:
    """Of the model that takes and gives tensors."""
    signature, batching = tensors.bundle.signature, tensors.batching
    message: Message = [
        ("", Comment(f"{signature.family}, {signature.task}; written by lat-export bundle --format triton.")),
        ("name", tensors.name),
        ("backend", tensors.backend),
        *([] if tensors.backend == "python" else [("default_model_filename", tensors.model)]),
        ("", Comment(f"{batching.why}.")),
        ("max_batch_size", batching.most),
        *(("", Comment(words)) for words in _limits(tensors)),
        *(("input", _tensor(spec, batching.most)) for spec in signature.inputs),
        *(("output", _tensor(spec, batching.most)) for spec in signature.outputs),
        *_dynamic_batching(tensors),
        ("instance_group", _instances(tensors)),
        ("version_policy", [("latest", [("num_versions", 1)])]),
        *_of_backend(tensors),
        *(("model_warmup", warmup) for warmup in _warmups(tensors)),
    ]
    return pbtxt.text(message)


def text_config(name: str, tensors: Tensors) -> str:
    """Of the model that takes text and answers as JSON."""
    task = tensors.bundle.signature.task
    fields = [("text", "TYPE_STRING", 1), *MORE_TEXT.get(task, ())]
    message: Message = [
        ("", Comment(f"Text to the answer of {task} as JSON; the tensors go to {tensors.name}.")),
        ("name", name),
        ("backend", "python"),
        ("", Comment("Texts differ in length, so nothing is joined here; the tensors are, where they may be.")),
        ("max_batch_size", 0),
        *(("input", _field(*one)) for one in fields),
        ("input", [*_field("top_k", "TYPE_INT32", 1), ("optional", True)]),
        ("output", _field("answer", "TYPE_STRING", 1)),
        ("instance_group", [("count", TEXT_INSTANCES), ("kind", Word("KIND_CPU"))]),
        ("version_policy", [("latest", [("num_versions", 1)])]),
    ]
    return pbtxt.text(message)


def _field(name: str, dtype: str, *dims: int) -> Message:
    return [("name", name), ("data_type", Word(dtype)), ("dims", dims)]


def _tensor(spec: TensorSpec, most: int) -> Message:
    """The batch is no dim of it where the server may join requests: `max_batch_size` stands for it."""
    dims = spec.dims[1:] if most else spec.dims
    return _field(spec.name, DTYPES[spec.dtype], *(dim if isinstance(dim, int) else -1 for dim in dims))


def _limits(tensors: Tensors) -> Iterator[str]:
    signature: Signature = tensors.bundle.signature
    checked = "refused by this model" if tensors.backend == "python" else "refused only by the model that takes text"
    yield f"sequence: at most {signature.max_tokens} tokens. What goes beyond these limits is {checked}."
    if signature.multiple_of > 1:
        yield f"sequence % {signature.multiple_of} == 0 (landmarks): pad with attention_mask 0."
    for spec in signature.inputs:
        if spec.below is not None:
            yield f"{spec.name}: 0 to {spec.below - 1}."
    if tensors.max_global is not None:
        yield f"global_attention_mask: at most {tensors.max_global} global tokens in a row."
    if tensors.of_engine:
        for profile in tensors.bundle.plan.texts:
            yield f"Engine built for {', '.join(f'{dim} {sizes}' for dim, sizes in profile.items())}."


def _dynamic_batching(tensors: Tensors) -> Iterator[tuple[str, object]]:
    preferred = tensors.batching.preferred
    if preferred:
        delay = ("max_queue_delay_microseconds", tensors.queue_delay_us)
        yield "dynamic_batching", [("preferred_batch_size", preferred), delay]


def _instances(tensors: Tensors) -> Message:
    profiles = len(tensors.bundle.plan.profiles) if tensors.of_engine else 1
    named = [("profile", tuple(str(index) for index in range(profiles)))] if profiles > 1 else []
    return [("count", tensors.instances), ("kind", Word(f"KIND_{tensors.device.upper()}")), *named]


def _of_backend(tensors: Tensors) -> Iterator[tuple[str, object]]:
    if tensors.backend != "onnxruntime":
        return
    yield "", Comment("Plans of memory are for shapes that come again; documents of every length do not.")
    yield "parameters", [("key", "enable_mem_pattern"), ("value", [("string_value", "0")])]
    if tensors.threads is not None:
        yield "parameters", [("key", "intra_op_thread_count"), ("value", [("string_value", str(tensors.threads))])]
    if tensors.libraries:
        yield "", Comment("The backend hands this to onnxruntime as it is: it has to be a whole path, in the server.")
        libraries = tuple(f"{tensors.served_at}/{name}" for name in tensors.libraries)
        yield "model_operations", [("op_library_filename", libraries)]


def _warmups(tensors: Tensors) -> Iterator[Message]:
    """Of one row, and of a full batch."""
    for index, warmup in enumerate(tensors.warmups):
        for rows in sorted({1, tensors.batching.most or 1}):
            yield [
                ("name", f"profile {index}, rows {rows}" if tensors.of_engine else f"rows {rows}"),
                ("batch_size", rows),
                *(("inputs", _warmup_input(spec, warmup, tensors)) for spec in tensors.bundle.signature.inputs),
            ]


def _warmup_input(spec: TensorSpec, warmup: Warmup, tensors: Tensors) -> Message:
    shape = warmup.shape(spec)
    value: Message = [
        ("data_type", Word(DTYPES[spec.dtype])),
        ("dims", shape[1:] if tensors.batching.most else shape),
        ("input_data_file", warmup.file(spec)),
    ]
    return [("key", spec.name), ("value", value)]
