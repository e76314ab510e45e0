"""Byte-level BPE, trained on the run's own text. Any text can be told; nothing is unknown."""

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

END = "<|end|>"  # between documents; begins and ends a text
END_ID = 0
VOCABULARY = 2048
VOCABULARY_MIN = 257  # all bytes and the end


def train(texts: Iterable[str], vocabulary: int = VOCABULARY) -> Tokenizer:
    """Learn merges from texts. Text that is too small for the vocabulary gives a smaller one."""
    assert vocabulary >= VOCABULARY_MIN, "bytes and the end must fit"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    assert tokenizer.token_to_id(END) == END_ID
    return tokenizer
