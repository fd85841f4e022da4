"""Host side of the data: foreign formats, the internal dataset, windows, augmentation, the loader."""
