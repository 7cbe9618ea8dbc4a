"""Write base-sized encoders with random weights and MiniLM's vocabulary; speed and memory do not depend on the values.

python benchmarks/speed/base_encoders.py FOLDER

FOLDER then has bert-base, roberta-base, modernbert-base and bert-base-without-dropout: ModernBERT is published without dropout,
which costs PyTorch more than biorel, so its counterpart is a BERT without it.
"""

import shutil
import sys
from pathlib import Path

import torch
from baseline_train import minilm_folder
from transformers import AutoModel, BertConfig, ModernBertConfig, RobertaConfig

# RoBERTa's positions start behind that of the padding; of the sizes only the vocabularies are not the published ones.
VOCABULARY = {"vocab_size": 30522, "pad_token_id": 0, "bos_token_id": 101, "eos_token_id": 102}
CONFIGS = {
    "bert-base": BertConfig(),
    "roberta-base": RobertaConfig(max_position_embeddings=513, type_vocab_size=1, **VOCABULARY),
    "modernbert-base": ModernBertConfig(cls_token_id=101, sep_token_id=102, **VOCABULARY),
    "bert-base-without-dropout": BertConfig(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0),
}


def main() -> None:
    for name, config in CONFIGS.items():
        folder = Path(sys.argv[1]) / name
        if (folder / "model.safetensors").exists():
            continue
        torch.manual_seed(0)
        AutoModel.from_config(config).save_pretrained(folder)
        for file in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
            if (minilm_folder() / file).exists():
                shutil.copy(minilm_folder() / file, folder / file)


if __name__ == "__main__":
    main()
