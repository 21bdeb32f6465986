"""Language models that answer a conversation; all have the one method of `csmkit.llm.contract.LLM`."""
