"""Model repositories for Triton: layout, configs as the server's own protobuf reads them, refusals, staging."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import GOLDEN, ROOT
from deploy.repositories import ENGINE, changed_bundle, engine_bundle

from lat_export import native
from lat_export.cli.bundle import BACKEND_NAMES, DEVICE_NAMES, FORMAT_NAMES
from lat_export.deploy import BACKENDS, DEPLOYMENT_FILE, DEVICES, FORMATS, Serving, deploy, pbtxt
from lat_export.deploy.pbtxt import Comment, Word
from lat_export.errors import InputError, ParityError
from lat_export.pipeline import Exported, export
from lat_export.types import ModelSpec, Options

Export = Callable[..., Exported]
MODELS = [("question-answering", "longformer"), ("token-classification", "nystromformer"), ("multiple-choice", "yoso")]
DTYPES = {"int64": "TYPE_INT64", "float32": "TYPE_FP32"}


@pytest.fixture(scope="module")
def parsed() -> Callable[[Path], Any]:
    """A config as the official protobuf reads it."""
    name = "tritonclient.grpc.model_config_pb2"
    configs = pytest.importorskip(name, reason="pip install 'lat-export[triton]' parses configs")
    from google.protobuf import text_format

    return lambda path: text_format.Parse(path.read_text(), configs.ModelConfig())


def repository(bundle: Path, out: Path, **options: Any) -> tuple[Path, dict[str, Any]]:
    done = deploy(bundle, "triton", Serving(out, **options))
    return done.folder, done.manifest


@pytest.mark.parametrize("backend", ["onnxruntime", "python"])
@pytest.mark.parametrize(("task", "family"), MODELS)
def test_config_is_the_signature(
    task: str, family: str, backend: str, exported: Export, parsed: Callable[[Path], Any], tmp_path: Path
) -> None:
    bundle = exported(task, family=family).bundle
    folder, manifest = repository(bundle.folder, tmp_path / "out", backend=backend)
    config = parsed(folder / f"{family}-{task}" / "config.pbtxt")
    assert (config.name, config.backend) == (f"{family}-{task}", backend)
    coupled = family == "nystromformer"
    assert config.max_batch_size == (0 if coupled else 8)
    assert config.HasField("dynamic_batching") != coupled
    assert manifest["batching"]["max_batch_size"] == config.max_batch_size
    assert ("coupled" in manifest["batching"]["why"]) == coupled
    names = configs_enum(config)
    for given, specs in ((config.input, bundle.signature.inputs), (config.output, bundle.signature.outputs)):
        assert [one.name for one in given] == [spec.name for spec in specs]
        assert [names[one.data_type] for one in given] == [DTYPES[spec.dtype] for spec in specs]
        wanted = [[dim if isinstance(dim, int) else -1 for dim in spec.dims] for spec in specs]
        assert [list(one.dims) for one in given] == [dims if coupled else dims[1:] for dims in wanted]
    if not coupled:
        assert list(config.dynamic_batching.preferred_batch_size) == [4, 8]
        assert config.dynamic_batching.max_queue_delay_microseconds == 1000
    assert config.version_policy.latest.num_versions == 1
    assert [(group.count, group.kind) for group in config.instance_group] == [(1, group_kind(config, "KIND_CPU"))]


def configs_enum(config: Any) -> dict[int, str]:
    field = config.DESCRIPTOR.fields_by_name["input"].message_type.fields_by_name["data_type"]
    return {value.number: value.name for value in field.enum_type.values}


def group_kind(config: Any, name: str) -> int:
    field = config.DESCRIPTOR.fields_by_name["instance_group"].message_type.fields_by_name["kind"]
    return int(field.enum_type.values_by_name[name].number)


@pytest.mark.parametrize(("task", "family"), MODELS)
def test_warmups_are_inputs_that_the_model_takes(
    task: str, family: str, exported: Export, parsed: Callable[[Path], Any], tmp_path: Path
) -> None:
    signature = exported(task, family=family).bundle.signature
    folder, _ = repository(exported(task, family=family).bundle.folder, tmp_path / "out", backend="python")
    model = folder / f"{family}-{task}"
    config = parsed(model / "config.pbtxt")
    assert [one.batch_size for one in config.model_warmup] == ([1] if family == "nystromformer" else [1, 8])
    named = set()
    for warmup in config.model_warmup:
        inputs = {}
        for spec in signature.inputs:
            given = warmup.inputs[spec.name]
            named.add(given.input_data_file)
            array = np.frombuffer((model / "warmup" / given.input_data_file).read_bytes(), spec.dtype)
            inputs[spec.name] = array.reshape(*([] if config.max_batch_size == 0 else [1]), *given.dims)
        signature.check_inputs(inputs)
        assert inputs["attention_mask"].all()
    assert named == {path.name for path in (model / "warmup").iterdir()}


def test_the_text_model_takes_what_the_task_needs(
    exported: Export, parsed: Callable[[Path], Any], tmp_path: Path
) -> None:
    for (task, family), wanted in zip(MODELS, (["question"], [], ["choices"]), strict=True):
        folder, manifest = repository(exported(task, family=family).bundle.folder, tmp_path / task)
        assert manifest["models"] == {"text": f"{family}-{task}_text", "tensors": f"{family}-{task}"}
        config = parsed(folder / f"{family}-{task}_text" / "config.pbtxt")
        assert [one.name for one in config.input] == ["text", *wanted, "top_k"]
        assert [one.optional for one in config.input] == [False, *(False for _ in wanted), True]
        assert (config.backend, config.max_batch_size) == ("python", 0)


def test_native_ops_go_with_an_onnx_model(
    exported: Export, ort_library: Path, parsed: Callable[[Path], Any], tmp_path: Path
) -> None:
    bundle = exported("question-answering").bundle.folder
    folder, manifest = repository(bundle, tmp_path / "out", served_at="/models/")
    name = "longformer-question-answering"
    config = parsed(folder / name / "config.pbtxt")
    assert list(config.model_operations.op_library_filename) == [f"/models/{name}/1/{ort_library.name}"]
    assert (folder / name / "1" / ort_library.name).read_bytes() == ort_library.read_bytes()
    assert manifest["start"] == "tritonserver --model-repository=/models"
    assert any("never run" in note for note in manifest["notes"])
    assert not any("not validated" in note for note in manifest["notes"])
    folder, _ = repository(bundle, tmp_path / "python", backend="python", name="m")
    serving = json.loads((folder / "m" / "1" / "serving.json").read_text())
    assert serving["op_library"] == ort_library.name
    assert (folder / "m" / "1" / ort_library.name).read_bytes() == ort_library.read_bytes()


def test_without_native_ops_bodies_are_served(
    exported: Export, parsed: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "ort_library", lambda: None)
    folder, manifest = repository(exported("question-answering").bundle.folder, tmp_path / "out")
    config = parsed(folder / "longformer-question-answering" / "config.pbtxt")
    assert not config.HasField("model_operations")
    assert manifest["libraries"] == []
    assert any("body" in note for note in manifest["notes"])


def test_a_factor_for_each_head_lets_requests_be_joined(tmp_path: Path) -> None:
    checkpoint = shutil.copytree(GOLDEN / "nystromformer" / "text-classification" / "checkpoint", tmp_path / "model")
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps({**config, "inv_coeff_init_option": True}))
    done = export(ModelSpec(str(checkpoint), "onnx", tmp_path / "bundle", validate=False, options=Options()))
    _, manifest = repository(done.bundle.folder, tmp_path / "out")
    assert manifest["batching"]["max_batch_size"] == 8
    assert manifest["multiple_of"] == 8
    assert any("--no-validate" in note for note in manifest["notes"])


def test_outputs_without_a_batch_axis_are_not_joined(exported: Export, tmp_path: Path) -> None:
    source = exported("multiple-choice", family="yoso").bundle
    signature = source.signature.to_json()
    signature["outputs"] = [*signature["outputs"], {"name": "h", "dtype": "float32", "dims": ["batch*choices", 4]}]
    bundle = changed_bundle(source.folder, tmp_path / "bundle", {"signature": signature})
    _, manifest = repository(bundle, tmp_path / "out")
    assert manifest["batching"]["max_batch_size"] == 0
    assert "h is not the batch" in manifest["batching"]["why"]


def test_an_engine_with_its_plugins(
    exported: Export, parsed: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "liblat_trt.so"
    library.write_bytes(b"plugins")
    monkeypatch.setattr(native, "tensorrt_library", lambda: library)
    bundle = engine_bundle(exported("question-answering").bundle.folder, tmp_path / "bundle")
    folder, manifest = repository(bundle, tmp_path / "out", served_at="/models", name="qa")
    config = parsed(folder / "qa" / "config.pbtxt")
    assert (config.backend, config.default_model_filename, config.max_batch_size) == ("tensorrt", "model.plan", 4)
    assert [group.kind for group in config.instance_group] == [group_kind(config, "KIND_GPU")]
    assert (folder / "qa" / "1" / "model.plan").read_bytes() == b"plan"
    assert (folder / "qa" / "1" / library.name).read_bytes() == b"plugins"
    assert manifest["start"].endswith("--backend-config=tensorrt,plugins=/models/qa/1/liblat_trt.so")
    assert [list(one.inputs["input_ids"].dims) for one in config.model_warmup] == [[64], [64]]
    assert json.loads((folder / "qa_text" / "1" / "serving.json").read_text())["max_global"] == 8


def test_an_engine_with_two_profiles_and_embedded_plugins(
    exported: Export, parsed: Callable[[Path], Any], tmp_path: Path
) -> None:
    profiles = [{"batch": "1:1:2", "sequence": "16:32:64"}, {"batch": "1:4:16", "sequence": "16:16:16"}]
    plan = {"profiles": profiles, "options": {"embed_plugins": True}}
    bundle = engine_bundle(exported("question-answering").bundle.folder, tmp_path / "bundle", plan=plan)
    folder, manifest = repository(bundle, tmp_path / "out", name="qa")
    config = parsed(folder / "qa" / "config.pbtxt")
    assert [list(group.profile) for group in config.instance_group] == [["0", "1"]]
    assert config.max_batch_size == 16
    assert manifest["libraries"] == []
    assert manifest["start"].endswith("--backend-config=tensorrt,version-compatible=true")


def test_an_engine_without_small_batches_is_not_joined(exported: Export, tmp_path: Path) -> None:
    plan = {"options": {"embed_plugins": True}}
    bundle = engine_bundle(exported("question-answering").bundle.folder, tmp_path / "bundle", "4:4:4", plan=plan)
    _, manifest = repository(bundle, tmp_path / "out")
    assert manifest["batching"]["max_batch_size"] == 0
    assert "no batch below 4" in manifest["batching"]["why"]


REFUSALS: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("an onnx bundle has no engine", {}, {"backend": "tensorrt"}, "no engine"),
    ("RTX", {"target": "trt-rtx"}, {"backend": "tensorrt"}, "no engine"),
    ("a name", {}, {"name": "../x"}, "not a name"),
    ("an empty name", {}, {"name": ""}, "not a name"),
    ("bfloat16", {"precision": "bf16"}, {}, "bfloat16"),
]


@pytest.mark.parametrize(("changes", "options", "words"), [row[1:] for row in REFUSALS], ids=[r[0] for r in REFUSALS])
def test_what_cannot_be_served_is_refused_and_nothing_is_left(
    changes: dict[str, Any], options: dict[str, Any], words: str, exported: Export, tmp_path: Path
) -> None:
    bundle = changed_bundle(exported("question-answering").bundle.folder, tmp_path / "bundle", changes)
    with pytest.raises(InputError, match=words):
        repository(bundle, tmp_path / "parent" / "out", **options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle"]


def test_engines_are_refused_for_what_they_lack(exported: Export, tmp_path: Path) -> None:
    source = exported("question-answering").bundle.folder
    stripped = engine_bundle(source, tmp_path / "stripped", plan={"options": {"strip_weights": True}})
    with pytest.raises(InputError, match="no weights"):
        repository(stripped, tmp_path / "out")
    whole = engine_bundle(source, tmp_path / "whole", plan={"options": {"embed_plugins": True}})
    with pytest.raises(InputError, match="smaller batches"):
        repository(whole, tmp_path / "out", max_batch=5)
    with pytest.raises(InputError, match="runs on a GPU"):
        repository(whole, tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()


def test_a_coupled_model_is_not_joined_by_force(exported: Export, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be joined") as caught:
        repository(
            exported("token-classification", family="nystromformer").bundle.folder, tmp_path / "out", max_batch=4
        )
    assert "inv_coeff_init_option" in str(caught.value.hint)


def test_a_bundle_that_was_changed_is_not_deployed(exported: Export, tmp_path: Path) -> None:
    bundle = shutil.copytree(exported("question-answering").bundle.folder, tmp_path / "bundle")
    with (bundle / "config.json").open("a") as file:
        file.write(" ")
    with pytest.raises(ParityError, match=r"config\.json"):
        repository(bundle, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_manifest_has_every_file(exported: Export, tmp_path: Path) -> None:
    folder, manifest = repository(exported("question-answering").bundle.folder, tmp_path / "out", backend="python")
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == {*manifest["files"], DEPLOYMENT_FILE}
    for name, entry in manifest["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == entry["sha256"]


def test_force_replaces_deployments_only(exported: Export, tmp_path: Path) -> None:
    bundle, out = exported("question-answering").bundle.folder, tmp_path / "out"
    repository(bundle, out)
    with pytest.raises(InputError, match="exists"):
        repository(bundle, out)
    bytecode = out / "longformer-question-answering_text" / "1" / "__pycache__"
    bytecode.mkdir()
    (bytecode / "model.pyc").write_bytes(b"of the server")
    deploy(bundle, "triton", Serving(out, name="other"), force=True)
    assert (out / "other").is_dir()
    assert not bytecode.exists()
    (out / "mine.txt").write_text("kept")
    with pytest.raises(InputError, match="replaces only"):
        deploy(bundle, "triton", Serving(out), force=True)
    assert (out / "mine.txt").read_text() == "kept"
    other = shutil.copytree(bundle, tmp_path / "bundle")
    with pytest.raises(InputError, match="replaces only"):
        deploy(bundle, "triton", Serving(other), force=True)


def test_a_bundle_without_tokenizer_is_served_as_tensors(exported: Export, tmp_path: Path) -> None:
    source = exported("question-answering").bundle
    files = {name: entry for name, entry in source.manifest["files"].items() if not name.startswith("tokenizer/")}
    bundle = changed_bundle(source.folder, tmp_path / "bundle", {})
    manifest_file = bundle / "manifest.json"
    manifest = json.loads(manifest_file.read_text())
    manifest["files"] = files
    manifest_file.write_text(json.dumps(manifest))
    digest = hashlib.sha256(manifest_file.read_bytes()).hexdigest()
    (bundle / "manifest.json.sha256").write_text(f"{digest}  manifest.json\n")
    folder, written = repository(bundle, tmp_path / "out")
    assert written["models"] == {"tensors": "longformer-question-answering"}
    assert [path.name for path in folder.iterdir() if path.is_dir()] == ["longformer-question-answering"]
    assert any("tokenizer.json" in note for note in written["notes"])


def test_choices_of_the_command_are_those_of_the_tables() -> None:
    assert set(FORMAT_NAMES) == set(FORMATS)
    assert (BACKEND_NAMES, DEVICE_NAMES) == (BACKENDS, DEVICES)


def test_text_format_knows_comments_lists_and_quotes() -> None:
    message = [("", Comment("why")), ("a", 'x"\\'), ("b", (1, -1)), ("c", [("d", Word("E")), ("f", True)])]
    assert pbtxt.text(message) == '# why\na: "x\\"\\\\"\nb: [1, -1]\nc {\n  d: E\n  f: true\n}\n'


def test_the_command(exported: Export, tmp_path: Path) -> None:
    bundle = exported("question-answering").bundle.folder
    command = [sys.executable, "-m", "lat_export", "bundle", str(bundle), "--format", "triton", "--out"]
    done = subprocess.run([*command, str(tmp_path / "out")], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "longformer-question-answering_text" in done.stdout
    assert done.stderr.startswith(f"next: tritonserver --model-repository={tmp_path / 'out'}")
    asked = [*command, str(tmp_path / "json"), "--no-text", "--json"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False, cwd=ROOT)
    assert json.loads(done.stdout) == json.loads((tmp_path / "json" / DEPLOYMENT_FILE).read_text())
    done = subprocess.run([*command, str(tmp_path / "out")], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_engine_file_is_the_one_of_the_target() -> None:
    from lat_export.targets import TARGETS

    assert TARGETS["trt"].engine_file == ENGINE  # type: ignore[attr-defined]
