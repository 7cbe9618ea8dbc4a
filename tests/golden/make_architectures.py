"""Writes tests/golden/architectures: every architecture but BERT, in several shapes, against transformers.

    python tests/golden/make_architectures.py [electra] [roberta] ...

Needs the packages of benchmarks/requirements.txt. A folder has the `config.json` of a small model, `tensors.json` with
the names and shapes of all tensors of its masked language model and of `AutoModel`, and `expected.safetensors`, of
which the tensors `masked.*` are those of the masked language model. The weights are in no file: their names determine
them.
"""

import json
import sys

import numpy as np
import torch
from make_golden import HERE, LABELS, Head, ReferenceAdamW, packed_batch, pad, save
from noise import uniform
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM

WORDS = 30
SIZES = {
    "a": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24},
    "b": {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 40},
    "c": {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 32},
}
# Per architecture: the shapes, and what differs between them beside the sizes.
MODELS = {
    "distilbert": {"a": {}, "b": {}, "c": {"sinusoidal_pos_embds": False}},
    "electra": {"a": {"embedding_size": 12}, "b": {"embedding_size": 32}, "c": {"embedding_size": 8}},
    "roberta": {"a": {"pad_token_id": 1}, "b": {"layer_norm_eps": 1e-5}, "c": {"pad_token_id": 0}},
    "xlm-roberta": {
        "a": {"layer_norm_eps": 1e-5},
        "b": {"pad_token_id": 1},
        "c": {"pad_token_id": 0, "type_vocab_size": 1},
    },
    "megatron-bert": {"a": {}, "b": {}, "c": {"layer_norm_eps": 1e-5}},
    "modernbert": {
        "a": {"local_attention": 8, "global_attn_every_n_layers": 2},
        "b": {"local_attention": 2, "layer_types": ["sliding_attention"], "classifier_bias": True},
        "c": {"local_attention": 6, "norm_eps": 1e-3, "decoder_bias": False},
    },
}
for shape in MODELS["modernbert"].values():
    shape |= {"pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
COMMON = {"vocab_size": WORDS, "max_position_embeddings": 20, "hidden_dropout_prob": 0.0}
COMMON["attention_probs_dropout_prob"] = 0.0
# What DistilBERT calls the common keys.
DISTILBERT = {"hidden_size": "dim", "num_hidden_layers": "n_layers", "num_attention_heads": "n_heads"}
DISTILBERT |= {"intermediate_size": "hidden_dim", "hidden_dropout_prob": "dropout"}
DISTILBERT |= {"attention_probs_dropout_prob": "attention_dropout"}
LENGTHS = [[7, 3, 12, 5], [4, 9, 6, 15], [16, 3, 8, 8], [5, 5, 11, 13], [10, 16, 4, 6]]


def noise(name: str, size: int) -> np.ndarray:
    """Numbers from -0.35 to 0.35, a function of the name."""
    return (0.7 * (uniform(name, size) - 0.5)).astype(np.float32)


def fill(module: nn.Module, prefix: str = "") -> None:
    """All parameters, those of LayerNorm's scales around 1."""
    scales = {f"{name}.weight" for name, part in module.named_modules() if isinstance(part, nn.LayerNorm)}
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            values = torch.from_numpy(noise(prefix + name, parameter.numel())).reshape(parameter.shape)
            parameter.copy_(1 + values if name in scales else values)


def batches() -> list[tuple[list[list[int]], list[int]]]:
    """Sentences of words whose ids are 4 and more, between the ids 2 and 3, with their labels."""

    def words(name: str, length: int, below: int) -> list[int]:
        return [int(value * below) for value in uniform(name, length)]

    def sentence(name: str, length: int) -> list[int]:
        return [2, *(4 + word for word in words(name, length - 2, WORDS - 4)), 3]

    return [
        ([sentence(f"sentence {i} {j}", length) for j, length in enumerate(row)], words(f"labels {i}", 4, LABELS))
        for i, row in enumerate(LENGTHS)
    ]


def build(config, head: str, dtype: torch.dtype) -> tuple[nn.Module, Head, dict[str, nn.Parameter]]:
    options = {} if config.model_type in ("distilbert", "electra", "modernbert") else {"add_pooling_layer": False}
    encoder = AutoModel.from_config(config, attn_implementation="eager", **options).eval()
    fill(encoder)
    head = Head(head, config.hidden_size, LABELS)
    fill(head, "head.")
    encoder.to(dtype), head.to(dtype)
    parameters = dict(encoder.named_parameters()) | {f"head.{name}": p for name, p in head.named_parameters()}
    return encoder, head, parameters


def loss_of(encoder, head, sentences, labels):
    # Each sentence by itself, without padding: where a window has padding alone, ModernBERT's eager attention is NaN,
    # and so are all gradients.
    outputs = [encoder(input_ids=torch.tensor([ids]), output_attentions=True) for ids in sentences]
    states = [output.last_hidden_state[0] for output in outputs]
    logits, _ = head([nn.utils.rnn.pad_sequence(states, batch_first=True)], pad(sentences)[1])
    of_cls = [output.attentions[-1][0].mean(dim=0)[0] for output in outputs]
    return nn.functional.cross_entropy(logits, torch.tensor(labels)), torch.cat(states), torch.cat(of_cls)


def ten_steps(config, lr=1e-3) -> list[float]:
    encoder, head, parameters = build(config, "cls", torch.float32)
    groups = [
        {"params": [p for p in parameters.values() if p.dim() > 1], "weight_decay": 0.01},
        {"params": [p for p in parameters.values() if p.dim() == 1], "weight_decay": 0.0},
    ]
    optimizer, losses = ReferenceAdamW(groups, (0.9, 0.999), 1e-6), []
    for step in range(10):
        for parameter in parameters.values():
            parameter.grad = None
        loss, *_ = loss_of(encoder, head, *batches()[step % 5])
        loss.backward()
        nn.utils.clip_grad_norm_(parameters.values(), 1.0)
        optimizer.step(lr)
        losses.append(loss.item())
    return losses


def masked_language_model(config) -> dict[str, torch.Tensor]:
    """The loss of the first batch, where some pieces are to be predicted, and every gradient."""
    model = AutoModelForMaskedLM.from_config(config, attn_implementation="eager").eval()
    fill(model)
    encoder = dict(model.base_model.named_parameters())
    fill(model.base_model)
    model.double()
    sentences, _ = batches()[0]
    targets = [(0, 1), (0, 4), (1, 1), (2, 3), (2, 10), (3, 2)]  # text and piece
    wanted = [int(4 + value * (WORDS - 4)) for value in uniform("masked", len(targets))]
    logits = [model(input_ids=torch.tensor([ids])).logits[0] for ids in sentences]
    logits = torch.stack([logits[text][piece] for text, piece in targets])
    loss = nn.functional.cross_entropy(logits, torch.tensor(wanted))
    loss.backward()
    names = {id(parameter): name for name, parameter in encoder.items()}
    out = {
        f"masked.grad.{names.get(id(p), name)}": p.grad for name, p in model.named_parameters() if p.grad is not None
    }
    out |= {
        "masked.loss": loss.reshape(1),
        "masked.targets": torch.tensor(targets),
        "masked.labels": torch.tensor(wanted),
    }
    return out


def make(kind: str, shape: str) -> None:
    names = DISTILBERT if kind == "distilbert" else {}
    common = {names.get(key, key): value for key, value in (SIZES[shape] | COMMON).items()}
    config = AutoConfig.for_model(kind, **common, **MODELS[kind][shape])
    folder = HERE / "architectures" / f"{kind}-{shape}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config.to_dict()) + "\n")
    models = {"language_model": AutoModelForMaskedLM.from_config(config), "encoder": AutoModel.from_config(config)}
    tensors = {name: {key: list(t.shape) for key, t in model.state_dict().items()} for name, model in models.items()}
    (folder / "tensors.json").write_text(json.dumps(tensors) + "\n")

    language_model = masked_language_model(config)
    encoder, head, parameters = build(config, "attention", torch.float64)
    sentences, labels = batches()[0]
    loss, last, of_cls = loss_of(encoder, head, sentences, labels)
    loss.backward()
    out = {"last": last, "attention_of_cls": of_cls, "loss": loss.reshape(1), "losses": torch.tensor(ten_steps(config))}
    out |= {f"grad.{name}": parameter.grad for name, parameter in parameters.items()}
    out = {name: tensor.float() for name, tensor in out.items()}
    out |= {name: t if "labels" in name or "targets" in name else t.float() for name, t in language_model.items()}
    for i, (sentences, labels) in enumerate(batches()):
        out |= packed_batch(sentences, labels, prefix=f"batch.{i}.")
    assert all(tensor.isfinite().all() for tensor in out.values())
    save(out, folder / "expected.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for kind in sys.argv[1:] or MODELS:
        for shape in MODELS[kind]:
            make(kind, shape)
