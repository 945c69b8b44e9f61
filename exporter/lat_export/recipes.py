"""Makes the small checkpoints of golden/ and their golden tensors from a recipe: config, seed, weights to sharpen.

Random initial weights (std 0.02) give attention so uniform that a wrong window or mask hides under the tolerance. A
recipe therefore names weights to draw anew with a larger spread.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lat_export.errors import InputError, LatExportError, first_line
from lat_export.families import family_of
from lat_export.quiet import quiet_transformers
from lat_export.remake import command, portable
from lat_export.stages.load import load
from lat_export.stages.record import record
from lat_export.staging import staged
from lat_export.tasks import TASKS, task_named
from lat_export.types import ModelSpec
from lat_export.validation.golden import MANIFEST_FILE, TENSORS_FILE

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

RECIPE_FILE = "recipe.json"
CHECKPOINT_FOLDER = "checkpoint"


@dataclass(frozen=True)
class Recipe:
    """
    Attributes:
        config: keywords of the family's config class.
        sharpen: standard deviation, or mean and standard deviation, by regular expression over parameter names; those
            weights are drawn anew. The first expression that fits is taken.
        tasks: config keywords of each task's own.
        kept_bytes_per_output: size over which a case's outputs keep only some positions.
        tokenizer: "vocab_size" and "corpus" (lines of text) of a byte-level BPE tokenizer.
    """

    family: str
    seed: int
    config: dict[str, Any]
    sharpen: dict[str, float | list[float]]
    tasks: dict[str, dict[str, Any]]
    kept_bytes_per_output: int
    tokenizer: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Recipe:
        """
        Raises:
            InputError: no recipe there, or one that is malformed; the error names the file and what is wrong in it.
        """
        path = folder / RECIPE_FILE
        if not path.is_file():
            raise InputError("no recipe there", got=folder, expected=f"a folder with {RECIPE_FILE}")
        try:
            recipe = cls(**json.loads(path.read_text()))
        except (TypeError, ValueError) as error:
            raise InputError(
                f"{path} is not a recipe", got=first_line(error), expected=", ".join(cls.__annotations__)
            ) from error
        for name, holds, expected in recipe._conditions():
            if not holds:
                value = getattr(recipe, name)
                raise InputError(f"{path} is not a recipe: {name}", got=json.dumps(value)[:200], expected=expected)
        return recipe

    def _conditions(self) -> Iterator[tuple[str, bool, str]]:
        """(field, whether it holds, what would be right), in an order in which each may rely on those before."""
        yield "family", isinstance(self.family, str), "a model_type"
        yield "seed", _is_whole(self.seed), "a number of 0 or more"
        yield "config", isinstance(self.config, dict), "keywords of the family's config class"
        drawn = self.sharpen.values() if isinstance(self.sharpen, dict) else [None]
        yield (
            "sharpen",
            all(_is_spread(found) for found in drawn) and _all_compile(self.sharpen),
            "a standard deviation, or [mean, standard deviation], by regular expression",
        )
        tasks = self.tasks if isinstance(self.tasks, dict) else {}
        yield (
            "tasks",
            bool(tasks) and set(tasks) <= set(TASKS) and all(isinstance(own, dict) for own in tasks.values()),
            "config keywords by task, of " + ", ".join(TASKS),
        )
        yield "kept_bytes_per_output", _is_whole(self.kept_bytes_per_output), "a number of bytes"
        made_of = self.tokenizer if isinstance(self.tokenizer, dict) else {}
        corpus = made_of.get("corpus")
        yield (
            "tokenizer",
            set(made_of) == {"vocab_size", "corpus"}
            and _is_whole(made_of["vocab_size"])
            and isinstance(corpus, list)
            and bool(corpus)
            and all(isinstance(line, str) for line in corpus),
            '"vocab_size", a number, and "corpus", a list of lines of text',
        )


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _all_compile(patterns: Iterable[str]) -> bool:
    try:
        return all(re.compile(pattern) for pattern in patterns)
    except re.error:
        return False


def make_goldens(recipe_folder: Path, out: Path, tell: Callable[[str], None] = lambda _: None) -> None:
    """Write `<task>/checkpoint/` and `<task>/golden.*` for every task of the recipe into `out`.

    Raises:
        InputError: a malformed recipe, or one of a config that gives no model.
    """
    recipe = Recipe.read(recipe_folder)
    # The one recipe makes all of its tasks.
    again = command("golden", "make", portable(recipe_folder), *_elsewhere(recipe_folder, out))
    for task in recipe.tasks:
        folder = out / task
        with staged(folder, replaceable=_is_golden, force=True) as staging:
            checkpoint = staging.folder / CHECKPOINT_FOLDER
            with _told_of(recipe_folder / RECIPE_FILE, task):
                _make_checkpoint(recipe, task, checkpoint)
                loaded = load(ModelSpec(str(checkpoint), "onnx", out, task=task))
            golden = record(loaded, staging.folder, again, kept_bytes=recipe.kept_bytes_per_output)
        tell(f"{folder}: {len(golden)} cases, {sum(f.stat().st_size for f in folder.rglob('*') if f.is_file())} bytes")


def _elsewhere(recipe_folder: Path, out: Path) -> list[str]:
    return [] if out == recipe_folder else ["--out", portable(out)]


@contextmanager
def _told_of(recipe: Path, task: str) -> Iterator[None]:
    """What a config does to transformers' classes is an error of the recipe; a full disk is not."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:  # transformers, torch and tokenizers each raise their own
        got = error.what if isinstance(error, LatExportError) else first_line(error)
        if isinstance(error, LatExportError) and error.got is not None:
            got += f": {error.got}"
        raise InputError(
            "the recipe makes no checkpoint",
            got=got,
            expected="a config and a tokenizer that fit each other and the family",
            where={"recipe": str(recipe), "task": task},
        ) from error


def _is_golden(folder: Path) -> bool:
    return {path.name for path in folder.iterdir()} <= {CHECKPOINT_FOLDER, TENSORS_FILE, MANIFEST_FILE}


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
        tokenizer = _tokenizer(recipe, config)
        if len(tokenizer) > config.vocab_size:
            raise InputError(
                "the tokenizer has more tokens than the model",
                got=f"{len(tokenizer)} tokens, vocab_size {config.vocab_size}",
            )
        tokenizer.save_pretrained(folder)


def _is_spread(value: Any) -> bool:
    numbers = value if isinstance(value, list) and len(value) == 2 else [0.0, value]
    return all(isinstance(number, int | float) for number in numbers) and numbers[1] >= 0


def _sharpen(model: PreTrainedModel, recipe: Recipe) -> None:
    """Draw parameters anew, each from a generator of its own: the order of modules does not matter."""
    import torch

    for index, (name, parameter) in enumerate(sorted(model.named_parameters())):
        found = next((drawn for pattern, drawn in recipe.sharpen.items() if re.search(pattern, name)), None)
        if found is not None:
            mean, spread = found if isinstance(found, list) else (0.0, found)
            generator = torch.Generator().manual_seed(recipe.seed * 1000 + index)
            with torch.no_grad():
                parameter.normal_(mean, spread, generator=generator)


def _tokenizer(recipe: Recipe, config: PreTrainedConfig) -> Any:
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
        model_max_length=config.max_position_embeddings - 2,
    )
