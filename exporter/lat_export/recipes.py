"""Makes the small checkpoints of golden/ and their golden tensors from a recipe: config, seed, weights to sharpen.

Random initial weights (std 0.02) give attention so uniform that a wrong window or mask hides under the tolerance. A
recipe therefore names weights to draw anew with a larger spread.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lat_export.errors import InputError, ParityError
from lat_export.families import family_of
from lat_export.quiet import quiet_transformers
from lat_export.stages.load import Checkpoint, load
from lat_export.stages.record import origin, record
from lat_export.staging import staged
from lat_export.tasks import task_named
from lat_export.types import ModelSpec
from lat_export.validation.golden import MANIFEST_FILE, TENSORS_FILE, Golden

if TYPE_CHECKING:
    from transformers import PreTrainedModel

RECIPE_FILE = "recipe.json"
CHECKPOINT_FOLDER = "checkpoint"


@dataclass(frozen=True)
class Recipe:
    """
    Attributes:
        config: keywords of the family's config class.
        sharpen: standard deviation by regular expression over parameter names; those weights are drawn anew.
        tasks: config keywords of each task's own.
        kept_bytes_per_output: size over which a case's outputs keep only some positions.
        tokenizer: "vocab_size" and "corpus" (lines of text) of a byte-level BPE tokenizer.
    """

    family: str
    seed: int
    config: dict[str, Any]
    sharpen: dict[str, float]
    tasks: dict[str, dict[str, Any]]
    kept_bytes_per_output: int
    tokenizer: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Recipe:
        path = folder / RECIPE_FILE
        if not path.is_file():
            raise InputError("no recipe there", got=folder, expected=f"a folder with {RECIPE_FILE}")
        try:
            return cls(**json.loads(path.read_text()))
        except (TypeError, ValueError) as error:
            raise InputError(f"{path} is not a recipe", got=error, expected=", ".join(cls.__annotations__)) from error


def make_goldens(recipe_folder: Path, out: Path, tell: Callable[[str], None] = lambda _: None) -> None:
    """Write `<task>/checkpoint/` and `<task>/golden.*` for every task of the recipe into `out`."""
    recipe = Recipe.read(recipe_folder)
    for task in recipe.tasks:
        folder = out / task
        with staged(folder, replaceable=_is_golden, force=True) as staging:
            checkpoint = staging.folder / CHECKPOINT_FOLDER
            _make_checkpoint(recipe, task, checkpoint)
            loaded = load(ModelSpec(str(checkpoint), "onnx", out, task=task))
            golden = record(loaded, staging.folder, kept_bytes=recipe.kept_bytes_per_output)
        tell(f"{folder}: {len(golden)} cases, {sum(f.stat().st_size for f in folder.rglob('*') if f.is_file())} bytes")


def _is_golden(folder: Path) -> bool:
    return {path.name for path in folder.iterdir()} <= {CHECKPOINT_FOLDER, TENSORS_FILE, MANIFEST_FILE}


def check_goldens(folder: Path) -> list[str]:
    """Names of the goldens below `folder`, each with its digests checked.

    Raises:
        ParityError: tensors or checkpoint are not those that the golden was made from.
        InputError: no golden below the folder.
    """
    checked = []
    for manifest in sorted(folder.rglob("golden.json")):
        golden = Golden(manifest.parent)
        where = manifest.parent.resolve()
        if (where / CHECKPOINT_FOLDER).is_dir():  # a bundle's goldens have none beside them
            spec = ModelSpec(str(where / CHECKPOINT_FOLDER), "onnx", folder, task=golden.signature.task)
            _check_origin(golden, load(spec).checkpoint, where)
        checked.append(f"{manifest.parent.relative_to(folder)}: {len(golden)} cases")
    if not checked:
        raise InputError("no golden tensors below that folder", got=folder)
    return checked


def _check_origin(golden: Golden, current: Checkpoint, folder: Path) -> None:
    found, recorded = origin(current)["checkpoint_sha256"], golden.manifest["origin"]["checkpoint_sha256"]
    if found != recorded:
        raise ParityError(
            "the checkpoint is not the one that its golden tensors were made from",
            got=found,
            expected=recorded,
            hint=f"lat-export golden make {folder.parent}",
        )


def _make_checkpoint(recipe: Recipe, task: str, folder: Path) -> None:
    import torch
    import transformers

    family = family_of(recipe.family)
    model_class = getattr(transformers, family.class_prefix + task_named(task).class_suffix)
    config = transformers.AutoConfig.for_model(recipe.family, **recipe.config, **recipe.tasks[task])
    torch.manual_seed(recipe.seed)
    with quiet_transformers():
        model = model_class(config)
        _sharpen(model, recipe)
        model.save_pretrained(folder)
        _tokenizer(recipe).save_pretrained(folder)


def _sharpen(model: PreTrainedModel, recipe: Recipe) -> None:
    """Draw parameters anew, each from a generator of its own: the order of modules does not matter."""
    import torch

    for index, (name, parameter) in enumerate(sorted(model.named_parameters())):
        spread = next((std for pattern, std in recipe.sharpen.items() if re.search(pattern, name)), None)
        if spread is not None:
            generator = torch.Generator().manual_seed(recipe.seed * 1000 + index)
            with torch.no_grad():
                parameter.normal_(0.0, spread, generator=generator)


def _tokenizer(recipe: Recipe) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.tokenizer["vocab_size"],
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(recipe.tokenizer["corpus"], trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
        model_max_length=recipe.config["max_position_embeddings"] - 2,
    )
