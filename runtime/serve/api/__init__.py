"""The OpenAI API of a replica, one file per endpoint."""
