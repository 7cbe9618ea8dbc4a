"""Write a BERT-base with random weights and MiniLM's vocabulary; speed and memory do not depend on the values.

python benchmarks/speed/bert_base.py FOLDER
"""

import shutil
import sys
from pathlib import Path

import torch
from baseline_train import minilm_folder
from transformers import BertConfig, BertModel


def main() -> None:
    folder = Path(sys.argv[1])
    if (folder / "model.safetensors").exists():
        return
    torch.manual_seed(0)
    BertModel(BertConfig()).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        if (minilm_folder() / name).exists():
            shutil.copy(minilm_folder() / name, folder / name)


if __name__ == "__main__":
    main()
