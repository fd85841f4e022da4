"""3D gaussian splats in pure JAX: static shapes, many cameras at once, exact or with levels of detail."""
