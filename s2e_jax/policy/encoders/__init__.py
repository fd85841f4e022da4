"""Image encoders: frames in, one token per frame out."""
