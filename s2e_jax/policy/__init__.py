"""The S2E policy: encoders, context, anchors, decoder, heads."""
