"""s2e_jax: Seeing-to-Experiencing navigation policies in JAX (S2E, arXiv:2507.22028)."""
