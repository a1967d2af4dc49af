"""Bytes in, decisions out: pure, standard library only; time and randomness are arguments."""
