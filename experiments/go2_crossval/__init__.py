"""Cross-validation by trajectory on 20 real Go2 drives."""
