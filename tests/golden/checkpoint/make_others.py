"""Writes the forms that need other libraries: TensorFlow's own Saver, and msgpack as Flax uses it.

    python make_others.py [DIR]     DIR/reference -> DIR/tensorflow-saver and DIR/flax (default: tests/data/checkpoint)

Needs tensorflow, msgpack and safetensors; nothing of make_checkpoints.py, whose output it reads.
"""

import re
import shutil
import sys
from pathlib import Path

import msgpack
import numpy as np
import tensorflow as tf
from safetensors.numpy import load_file

DATA = Path(__file__).resolve().parent.parent.parent / "data" / "checkpoint"


def variable_of(name: str) -> str:
    """transformers' name -> the name in google-research/bert."""
    name = re.sub(r"^encoder\.layer\.(\d+)\.", r"encoder/layer_\1/", name)
    name = re.sub(r"LayerNorm\.weight$", "LayerNorm/gamma", name)
    name = re.sub(r"LayerNorm\.bias$", "LayerNorm/beta", name)
    name = re.sub(r"_embeddings\.weight$", "_embeddings", name)
    name = re.sub(r"\.weight$", "/kernel", name)
    return "bert/" + name.replace(".", "/")


def copy_to(root: Path, name: str, config: str) -> Path:
    out = root / name
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    shutil.copy(root / "reference" / "config.json", out / config)
    if (root / "reference" / "vocab.txt").is_file():
        shutil.copy(root / "reference" / "vocab.txt", out)
    return out


def write_tensorflow(root: Path, tensors: dict[str, np.ndarray]) -> None:
    out = copy_to(root, "tensorflow-saver", "bert_config.json")
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        for name, values in tensors.items():
            variable = variable_of(name)
            # Dense layers are y = x K with K of shape (in, out).
            initial = values.T if variable.endswith("/kernel") else values
            tf.compat.v1.get_variable(variable, initializer=initial)
        tf.compat.v1.train.create_global_step()
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver().save(session, str(out / "bert_model.ckpt"), write_meta_graph=False)
    (out / "checkpoint").unlink()


def write_flax(root: Path, tensors: dict[str, np.ndarray]) -> None:
    """flax.serialization.to_bytes: nested dicts, arrays as extension 1 of (shape, type, bytes)."""
    tree: dict = {}
    for name, values in tensors.items():
        *scopes, last = name.split(".")
        if last == "weight":
            embedding, norm = scopes[-1].endswith("embeddings"), scopes[-1] == "LayerNorm"
            last = "embedding" if embedding else "scale" if norm else "kernel"
        array = np.ascontiguousarray(values.T if last == "kernel" else values)
        content = msgpack.packb((array.shape, array.dtype.name, array.tobytes("C")), use_bin_type=True)
        node = tree.setdefault("bert", {})
        for scope in scopes:
            node = node.setdefault(scope, {})
        node[last] = msgpack.ExtType(1, content)
    (copy_to(root, "flax", "config.json") / "flax_model.msgpack").write_bytes(msgpack.packb(tree, use_bin_type=True))


def main() -> None:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else DATA
    tensors = load_file(root / "reference" / "model.safetensors")
    write_tensorflow(root, tensors)
    write_flax(root, tensors)


if __name__ == "__main__":
    main()
