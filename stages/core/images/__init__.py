"""Image operations: decoding, alignment, augmentation, degradation."""
