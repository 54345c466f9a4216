"""Items opened ahead of the model, in threads or in processes."""
