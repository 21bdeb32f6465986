"""A live conversation, tested with recorded voices that no model here was trained on."""
