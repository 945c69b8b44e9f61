"""Makes the TensorFlow checkpoints of this folder, and what TensorFlow computes with them.

transformers 5 has no TensorFlow, so this needs an environment of its own:
    pip install "transformers==4.45.2" "tensorflow-cpu==2.17.*" "tf-keras==2.17.*" "numpy<2"
    python tests/stages/tf_longformer/make.py
A folder a task: config.json and tf_model.h5 as `save_pretrained` of the TFLongformer class wrote them, and
expected.npz: `inputs.*` of one call and `outputs.*` that TensorFlow gave.
"""

from __future__ import annotations

import os
from pathlib import Path

os.environ["TF_USE_LEGACY_KERAS"] = "1"

import numpy as np
import tensorflow as tf
import transformers

HERE = Path(__file__).resolve().parent
CLASSES = {
    "feature-extraction": (transformers.TFLongformerModel, ("last_hidden_state", "pooler_output")),
    "fill-mask": (transformers.TFLongformerForMaskedLM, ("logits",)),
    "text-classification": (transformers.TFLongformerForSequenceClassification, ("logits",)),
    "multiple-choice": (transformers.TFLongformerForMultipleChoice, ("logits",)),
    "token-classification": (transformers.TFLongformerForTokenClassification, ("logits",)),
    "question-answering": (transformers.TFLongformerForQuestionAnswering, ("start_logits", "end_logits")),
}
SIZES = {
    "vocab_size": 32,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 42,
    "attention_window": [4, 8],
    "pad_token_id": 1,
    "sep_token_id": 2,
}


def main() -> None:
    for task, (model_class, outputs) in CLASSES.items():
        labels = 2 if task == "question-answering" else 3
        config = transformers.LongformerConfig(**SIZES, num_labels=labels)
        model = model_class(config)
        rng = np.random.default_rng(0)
        rows = (2, 3, 20) if task == "multiple-choice" else (2, 20)
        ids = rng.integers(3, 32, size=rows)
        mask = np.ones_like(ids)
        mask[-1, ..., 15:] = 0
        ids[mask == 0] = 1
        marked = np.zeros_like(ids)
        marked[..., 0] = 1
        marked[0, ..., 7] = 1
        inputs = {"input_ids": ids, "attention_mask": mask, "global_attention_mask": marked}
        model(inputs)  # builds the variables
        for variable in model.trainable_variables:
            drawn = rng.normal(scale=0.5, size=variable.shape).astype(np.float32)
            variable.assign(drawn + 1 if "gamma" in variable.name else drawn)
        model.save_pretrained(HERE / task, safe_serialization=False)
        found = model({name: tf.constant(array) for name, array in inputs.items()}, training=False)
        arrays = {f"inputs.{name}": array for name, array in inputs.items()}
        arrays |= {f"outputs.{name}": found[name].numpy() for name in outputs}
        np.savez_compressed(HERE / task / "expected.npz", **arrays)


if __name__ == "__main__":
    main()
