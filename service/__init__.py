"""What the factory knows and decides: nouns, rules, database and object storage."""
