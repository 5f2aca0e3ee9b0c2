"""Settings of a training run: the dataclasses, TOML in and out, overrides; recipes beside them."""
