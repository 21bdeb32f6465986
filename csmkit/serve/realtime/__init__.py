"""WS /v1/realtime: a spoken conversation, by the event names of OpenAI's Realtime API."""
