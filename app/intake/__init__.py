"""How tickets come in: a webhook is stored as it came, then read, mapped, and recorded as a revision."""
