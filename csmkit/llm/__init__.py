"""Language models that answer, behind one method."""
