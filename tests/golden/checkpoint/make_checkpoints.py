"""Writes one set of BERT weights in every form that users have, with PyTorch as the oracle.

    python make_checkpoints.py                      the tiny model, into tests/data/checkpoint
    python make_checkpoints.py --model DIR OUT      a real model (config.json, model.safetensors, vocab.txt), into OUT

Needs torch, numpy and safetensors. TensorFlow checkpoints with optimizer slots, in one and two data files and with many
small blocks, are written here byte by byte, from the format's public description; make_others.py has TensorFlow itself
write one. Each form is a directory that biorel opens; `reference/` holds the tensors that every one of them must give,
to the bit.
"""

import argparse
import json
import shutil
import struct
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

HERE = Path(__file__).resolve().parent
DATA = HERE.parent.parent / "data" / "checkpoint"
CONFIG = {
    "model_type": "bert",
    "vocab_size": 7,
    "hidden_size": 4,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 6,
    "max_position_embeddings": 8,
}

State = dict[str, torch.Tensor]


def tiny_state() -> State:
    """Every parameter random, so that a transposed or swapped one cannot go unnoticed."""
    generator = torch.Generator().manual_seed(20)
    h, f = CONFIG["hidden_size"], CONFIG["intermediate_size"]
    shapes = {
        "embeddings.word_embeddings.weight": (CONFIG["vocab_size"], h),
        "embeddings.position_embeddings.weight": (CONFIG["max_position_embeddings"], h),
        "embeddings.token_type_embeddings.weight": (2, h),
        "embeddings.LayerNorm.weight": (h,),
        "embeddings.LayerNorm.bias": (h,),
        "pooler.dense.weight": (h, h),
        "pooler.dense.bias": (h,),
    }
    for layer in range(CONFIG["num_hidden_layers"]):
        at = f"encoder.layer.{layer}."
        for part in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            shapes |= {f"{at}{part}.weight": (h, h), f"{at}{part}.bias": (h,)}
        shapes |= {f"{at}intermediate.dense.weight": (f, h), f"{at}intermediate.dense.bias": (f,)}
        shapes |= {f"{at}output.dense.weight": (h, f), f"{at}output.dense.bias": (h,)}
        for norm in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes |= {f"{at}{norm}.weight": (h,), f"{at}{norm}.bias": (h,)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


# ---------------------------------------------------------------- spellings


def old_norms(state: State) -> State:
    """LayerNorm as the first conversions from TensorFlow called it."""
    pairs = (("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta"))
    renamed = {}
    for name, tensor in state.items():
        old_name = name
        for new, old in pairs:
            old_name = old_name.replace(new, old)
        renamed[old_name] = tensor
    return renamed


def with_heads(state: State) -> State:
    """A checkpoint of pre-training: `bert.` before the encoder, two heads, position ids."""
    words = state["embeddings.word_embeddings.weight"]
    full = {f"bert.{name}": tensor for name, tensor in state.items()}
    full["bert.embeddings.position_ids"] = torch.arange(8).unsqueeze(0)
    full["cls.predictions.bias"] = torch.zeros(len(words))
    full["cls.predictions.decoder.weight"] = words
    full["cls.seq_relationship.weight"] = torch.zeros(2, words.shape[1])
    return full


def strided(state: State) -> State:
    """Transposed views, every second element of a longer run, and parts of one shared storage."""
    result = {}
    run = torch.cat([tensor.flatten() for tensor in state.values()])
    at = 0
    for i, (name, tensor) in enumerate(state.items()):
        size = tensor.numel()
        if tensor.dim() == 2 and i % 2:
            result[name] = tensor.t().contiguous().t()
        elif tensor.dim() == 1 and i % 2:
            result[name] = torch.stack([tensor, -tensor], dim=1)[:, 0]
        else:
            result[name] = run[at : at + size].view(tensor.shape)
        assert torch.equal(result[name], tensor)
        at += size
    return result


# ---------------------------------------------------------------- TensorFlow


def crc32c_table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return table


CRC_TABLE = crc32c_table()


def masked_crc(data: bytes) -> int:
    crc, table = 0xFFFFFFFF, CRC_TABLE
    for byte in data:
        crc = (crc >> 8) ^ table[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def message(field: int, content: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(content)) + content


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value) if value else b""


def block(entries: list[tuple[bytes, bytes]]) -> bytes:
    """A block of LevelDB's table: keys without what they share with the one before, anew every 16 entries."""
    out, restarts, previous = bytearray(), [], b""
    for i, (key, value) in enumerate(entries):
        shared = 0
        if i % 16 == 0:
            restarts.append(len(out))
        else:
            while shared < min(len(key), len(previous)) and key[shared] == previous[shared]:
                shared += 1
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        previous = key
    restarts = restarts or [0]
    return bytes(out) + b"".join(struct.pack("<I", at) for at in restarts) + struct.pack("<I", len(restarts))


def write_table(path: Path, entries: list[tuple[bytes, bytes]], block_size: int) -> None:
    out, index = bytearray(), []

    def add(content: bytes) -> bytes:
        handle = varint(len(out)) + varint(len(content))
        out.extend(content + b"\0" + struct.pack("<I", masked_crc(content + b"\0")))
        return handle

    pending: list[tuple[bytes, bytes]] = []
    for i, entry in enumerate(entries):
        pending.append(entry)
        if i + 1 == len(entries) or sum(len(k) + len(v) for k, v in pending) >= block_size:
            index.append((entry[0], add(block(pending))))
            pending = []
    handles = add(block([])) + add(block(index))
    out.extend(handles.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57))
    path.write_bytes(out)


def tensorflow_name(name: str) -> tuple[str, bool]:
    """The variable of a parameter, and whether it is a kernel, whose axes are (in, out)."""
    kernel = name.endswith(".dense.weight") or (".self." in name and name.endswith(".weight"))
    name = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
    name = name.replace("_embeddings.weight", "_embeddings").replace("layer.", "layer_")
    name = name.removesuffix(".weight") + ".kernel" if kernel else name
    return "bert/" + name.replace(".", "/"), kernel


def write_tensorflow(directory: Path, state: State, shards: int, block_size: int, slots: bool) -> None:
    variables: dict[str, np.ndarray] = {}
    for name, tensor in state.items():
        variable, kernel = tensorflow_name(name)
        array = tensor.numpy()
        variables[variable] = np.ascontiguousarray(array.T if kernel else array)
        if slots:
            variables[f"{variable}/adam_m"] = np.zeros(array.shape, np.float32)
            variables[f"{variable}/adam_v"] = np.zeros(array.shape, np.float32)
    if slots:
        variables["global_step"] = np.array(1000000, np.int64)
        variables["cls/seq_relationship/output_bias"] = np.zeros(2, np.float32)
    prefix = "model.ckpt-1000000"
    data = [bytearray() for _ in range(shards)]
    entries = [(b"", number(1, shards) + message(3, number(1, 1)))]
    for i, name in enumerate(sorted(variables)):
        array, shard = variables[name], i % shards
        content = array.tobytes()
        shape = b"".join(message(2, number(1, d)) for d in array.shape)
        dtype = {np.dtype(np.float32): 1, np.dtype(np.int64): 9}[array.dtype]
        entry = number(1, dtype) + message(2, shape) + number(3, shard) + number(4, len(data[shard]))
        entry += number(5, len(content)) + varint(6 << 3 | 5) + struct.pack("<I", masked_crc(content))
        entries.append((name.encode(), entry))
        data[shard] += content
    for shard, content in enumerate(data):
        (directory / f"{prefix}.data-{shard:05}-of-{shards:05}").write_bytes(content)
    write_table(directory / f"{prefix}.index", entries, block_size)


# ---------------------------------------------------------------- all forms


def write_sharded(directory: Path, state: State, parts: int) -> None:
    names = list(state)
    weight_map = {}
    for part in range(parts):
        file = f"model-{part + 1:05}-of-{parts:05}.safetensors"
        chosen = names[part::parts]
        save_file({name: state[name] for name in chosen}, directory / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(chosen, file)
    index = {"metadata": {"total_size": sum(t.nbytes for t in state.values())}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def write_sharded_bin(directory: Path, state: State) -> None:
    names = list(state)
    weight_map = {}
    for part, legacy in enumerate((False, True)):
        file = f"pytorch_model-{part + 1:05}-of-00002.bin"
        chosen = names[part::2]
        tensors = OrderedDict((name, state[name]) for name in chosen)
        torch.save(tensors, directory / file, _use_new_zipfile_serialization=not legacy)
        weight_map |= dict.fromkeys(chosen, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (directory / "pytorch_model.bin.index.json").write_text(json.dumps(index, indent=2) + "\n")


def write_all(state: State, config: dict, vocabulary: Path | None, out: Path, *, tiny: bool) -> None:
    # The tiny model's index is cut into small blocks, and has the slots of an optimizer.
    slots, block_size = tiny, 512 if tiny else 4096

    def directory(name: str, config_name: str = "config.json") -> Path:
        path = out / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        (path / config_name).write_text(json.dumps(config, indent=2) + "\n")
        if vocabulary:
            shutil.copy(vocabulary, path / "vocab.txt")
        return path

    def save(name: str, tensors: object, legacy: bool, **options: object) -> None:
        path = directory(name) / "pytorch_model.bin"
        torch.save(tensors, path, _use_new_zipfile_serialization=not legacy, **options)

    save_file(state, directory("reference") / "model.safetensors", metadata={"format": "pt"})
    save_file(old_norms(state), directory("safetensors-gamma") / "model.safetensors", metadata={"format": "pt"})
    write_sharded(directory("safetensors-sharded"), {f"bert.{n}": t for n, t in state.items()}, 3)
    for form, legacy in (("zip", False), ("legacy", True)):
        save(f"{form}", OrderedDict(state), legacy)
        save(f"{form}-heads-gamma", OrderedDict(old_norms(with_heads(state))), legacy)
        save(f"{form}-strided", strided(state), legacy)
        no_pooler = {name: tensor for name, tensor in state.items() if not name.startswith("pooler")}
        save(f"{form}-parameters", {n: torch.nn.Parameter(t) for n, t in no_pooler.items()}, legacy)
    module = torch.nn.Module()
    for name, tensor in state.items():
        module.register_buffer(name.replace(".", "/"), tensor)
    metadata = OrderedDict((name.replace("/", "."), tensor) for name, tensor in module.state_dict().items())
    metadata._metadata = module.state_dict()._metadata  # what every real state dict carries
    save("zip-nested", {"epoch": 3, "loss": 0.5, "state_dict": metadata}, False)
    save("zip-protocol4", metadata, False, pickle_protocol=4)
    save("legacy-metadata", metadata, True)
    write_sharded_bin(directory("bin-sharded"), state)
    write_tensorflow(directory("tensorflow", "bert_config.json"), state, 1, block_size, slots)
    write_tensorflow(directory("tensorflow-sharded", "bert_config.json"), state, 2, block_size, False)
    half = {name: tensor.half().float() for name, tensor in state.items()}
    kinds = (torch.float16, torch.float64, torch.float32)
    mixed = {name: tensor.to(kinds[i % 3]) for i, (name, tensor) in enumerate(half.items())}
    brain = {name: tensor.bfloat16() for name, tensor in state.items()}
    save_file(half, directory("half-reference") / "model.safetensors")
    save("zip-half", mixed, False)
    save("legacy-half", mixed, True)
    save_file({n: t.float() for n, t in brain.items()}, directory("bfloat16-reference") / "model.safetensors")
    save("zip-bfloat16", brain, False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, nargs=2, metavar=("DIR", "OUT"))
    arguments = parser.parse_args()
    if arguments.model is None:
        write_all(tiny_state(), CONFIG, None, DATA, tiny=True)
        return
    model, out = arguments.model
    state = {n: t for n, t in load_file(model / "model.safetensors").items() if not n.endswith("position_ids")}
    write_all(state, json.loads((model / "config.json").read_text()), model / "vocab.txt", out, tiny=False)


if __name__ == "__main__":
    main()
