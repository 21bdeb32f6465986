"""Listening tests over the sound that a sweep kept: plan, answers, a local page, and what the answers say."""

from csmkit.lab.listen.answers import AnswerFile, listening_rows, listening_sentences, read_answers
from csmkit.lab.listen.plan import KINDS, Item, ListeningTest, plan_test
from csmkit.lab.listen.server import ListeningServer
