"""What the factory knows and decides: nouns, rules, database, object storage, formats."""
