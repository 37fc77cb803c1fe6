"""A Qwen2 model with random weights and a tokenizer of its own: ``python tests/real/tiny_qwen2.py FOLDER``.

Run by the Python of an environment that has transformers; nothing is fetched. Every token but three is printable ASCII,
so that each one that is generated is text at once.
"""

from __future__ import annotations

import random
import string
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

TOKENS = 4096
CONTEXT = 4096
_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_tokenizer(folder: Path) -> None:
    """Byte-level BPE, as Qwen's is, trained on made-up words."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    chance = random.Random(11)
    syllables = [first + vowel + last for first in "bdfgklmnprst" for vowel in "aeiou" for last in ("", *"lnrst")]
    words = ["".join(chance.choices(syllables, k=chance.randint(1, 3))) for _ in range(20_000)]
    lines = [" ".join(chance.choices(words, k=20)) for _ in range(10_000)]
    special = [*_SPECIAL]
    trainer = trainers.BpeTrainer(vocab_size=TOKENS, special_tokens=special, show_progress=False)
    made.train_from_iterator([string.printable, *lines], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=made, eos_token=_SPECIAL[2], pad_token=_SPECIAL[0])
    fast.chat_template = _TEMPLATE
    fast.save_pretrained(folder)


def write_model(folder: Path) -> None:
    """About ten million weights: a token takes a few milliseconds on one core."""
    torch.manual_seed(11)
    shape = Qwen2Config(
        vocab_size=TOKENS,
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=8,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
        bos_token_id=0,
        eos_token_id=2,
    )
    Qwen2ForCausalLM(shape).to(torch.bfloat16).save_pretrained(folder)


if __name__ == "__main__":
    write_tokenizer(Path(sys.argv[1]))
    write_model(Path(sys.argv[1]))
