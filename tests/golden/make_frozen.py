"""Writes tests/golden/frozen: the architectures that candle-transformers computes, in three shapes each, by transformers.

    python tests/golden/make_frozen.py [deberta-v2] [nomic_bert]

Needs the packages of benchmarks/requirements.txt. A folder has the `config.json` of a small model, `tensors.json` with
the names and shapes of its tensors in a file, and `expected.safetensors`: the outputs of all layers for one batch. The
weights are in no file: their names determine them.
"""

import json
import sys
import tempfile
from pathlib import Path

import torch
from make_architectures import COMMON, SIZES, batches, noise
from make_golden import HERE, packed_batch, pad, save
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel

# Version 3, version 2, and one without relative attention.
V3 = {"relative_attention": True, "position_buckets": 4, "norm_rel_ebd": "layer_norm", "share_att_key": True}
V3 |= {"pos_att_type": ["p2c", "c2p"], "position_biased_input": False, "type_vocab_size": 0, "layer_norm_eps": 1e-7}
V2 = {"relative_attention": True, "max_relative_positions": 6, "pos_att_type": "c2p|p2c", "type_vocab_size": 2}
MODELS = {
    "deberta-v2": {"a": V3, "b": V2, "c": {"type_vocab_size": 0}},
    "nomic_bert": {
        "a": {},
        "b": {"layer_norm_eps": 1e-5, "type_vocab_size": 1},
        "c": {"rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0}},
    },
}


def make(kind: str, shape: str) -> None:
    common = {key: value for key, value in COMMON.items() if kind != "nomic_bert" or key != "hidden_act"}
    config = AutoConfig.for_model(kind, **SIZES[shape], **common, **MODELS[kind][shape])
    folder = HERE / "frozen" / f"{kind}-{shape}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config.to_dict()) + "\n")
    options = {"add_pooling_layer": False} if kind == "nomic_bert" else {}
    with tempfile.TemporaryDirectory() as temporary:
        # Under the names of the files, which transformers maps to those of its modules.
        AutoModel.from_config(config, **options).save_pretrained(temporary)
        file = Path(temporary) / "model.safetensors"
        tensors = load_file(file)
        for name, tensor in tensors.items():
            values = torch.from_numpy(noise(name, tensor.numel())).reshape(tensor.shape)
            scale = name.endswith("weight") and tensor.dim() == 1
            tensors[name] = 1 + values if scale else values
        save_file(tensors, file, metadata={"format": "pt"})
        model = AutoModel.from_pretrained(temporary, attn_implementation="eager", dtype=torch.float64, **options).eval()
    (folder / "tensors.json").write_text(json.dumps({name: list(t.shape) for name, t in tensors.items()}) + "\n")
    sentences, labels = batches()[0]
    ids, mask = pad(sentences)
    with torch.no_grad():
        states = model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states[1:]
    out = {f"layer.{i}": layer[mask.bool()].float() for i, layer in enumerate(states)}
    save(out | packed_batch(sentences, labels, prefix="batch.0."), folder / "expected.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for kind in sys.argv[1:] or MODELS:
        for shape in MODELS[kind]:
            make(kind, shape)
