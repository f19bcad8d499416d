"""Language models to speak with, by name: from scratch, or pretrained."""

from __future__ import annotations

from collections.abc import Iterable

from transformers import AutoModelForCausalLM, Qwen3Config

from ...errors import InputError
from .language_model import LanguageModel
from .pretrained import SMOLLM2, internvl, smollm2
from .tokenizer import small_tokenizer


def tiny(texts: Iterable[str], *, width: int = 64, layers: int = 2, vocabulary: int = 512) -> LanguageModel:
    """A small Qwen3 from scratch, drawn from torch's generator, which knows only what it is trained on.

    Args:
        texts: what its tokenizer shall write in few tokens.
    """
    tokenizer = small_tokenizer(texts, size=vocabulary)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=width // 4,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    return LanguageModel(AutoModelForCausalLM.from_config(config), tokenizer)


def load_language_model(name: str, texts: Iterable[str] = ()) -> LanguageModel:
    """A language model by name: ``tiny``, ``smollm2``, ``smollm2:8`` (its first 8 layers), or an InternVL checkpoint.

    Args:
        texts: for ``tiny``, see there.

    Raises:
        InputError: there is none of that name.
    """
    if name == "tiny":
        return tiny(texts)
    family, _, layers = name.partition(":")
    if family != SMOLLM2:
        return internvl(name)
    if layers and not layers.isdecimal():
        raise InputError(
            f"{name!r}: after the colon stands how many layers are kept; give a number, as smollm2:8"
        )
    return smollm2(int(layers) if layers else None)
