"""Parts of networks, and published checkpoints' keys."""
