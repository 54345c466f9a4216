"""One file per family of models: how it becomes towers. What changes a model is in `models/adaptation/`."""
