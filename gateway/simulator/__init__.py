"""A store in a box: people, phones and radio that exist only as numbers, sent out as advertisement bytes together with the truth."""
