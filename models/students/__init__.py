"""Students: small transformers networks that learn from the dataset."""
