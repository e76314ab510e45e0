"""The model: a Llama-shaped decoder, its tokenizer, and the folder both are exchanged as."""
