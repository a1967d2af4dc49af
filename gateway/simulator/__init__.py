"""A store in a box: people, phones and radio waves as numbers; out come advertisement bytes, and the truth."""
