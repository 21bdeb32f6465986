"""English word forms for the templates: articles, plurals and the five forms of a verb."""

from collections.abc import Callable

_PLURALS = {
    "mouse": "mice", "goose": "geese", "foot": "feet", "tooth": "teeth", "child": "children", "man": "men",
    "woman": "women", "fish": "fish", "sheep": "sheep", "deer": "deer", "leaf": "leaves", "knife": "knives",
    "wolf": "wolves", "shelf": "shelves", "wife": "wives", "potato": "potatoes", "tomato": "tomatoes",
    "mango": "mangoes", "goldfish": "goldfish", "life": "lives", "thief": "thieves", "scarf": "scarves",
    "officer": "officers", "fisherman": "fishermen", "person": "people", "half": "halves", "loaf": "loaves",
}  # fmt: skip
_PAST = """
be was been|become became become|begin began begun|bite bit bitten|blow blew blown|break broke broken
bring brought brought|build built built|burn burned burned|buy bought bought|catch caught caught
choose chose chosen|come came come|cost cost cost|cut cut cut|do did done|draw drew drawn|drink drank drunk
drive drove driven|eat ate eaten|fall fell fallen|feed fed fed|feel felt felt|fight fought fought
find found found|fly flew flown|forget forgot forgotten|get got gotten|give gave given|go went gone
grow grew grown|have had had|hear heard heard|hide hid hidden|hit hit hit|hold held held|hurt hurt hurt
keep kept kept|know knew known|lead led led|leave left left|lend lent lent|let let let|lie lay lain
lose lost lost|make made made|mean meant meant|meet met met|pay paid paid|put put put|read read read
ride rode ridden|ring rang rung|run ran run|say said said|see saw seen|sell sold sold|send sent sent
set set set|shake shook shaken|shine shone shone|sing sang sung|sit sat sat|sleep slept slept
speak spoke spoken|spend spent spent|stand stood stood|steal stole stolen|swim swam swum|take took taken
teach taught taught|tell told told|think thought thought|throw threw thrown|understand understood understood
wake woke woken|wear wore worn|win won won|write wrote written
"""
_IRREGULAR = {row.split()[0]: row.split()[1:] for row in _PAST.replace("\n", "|").split("|") if row}
_DOUBLING = {"stop", "plan", "drop", "run", "swim", "sit", "get", "put", "cut", "win", "forget", "set", "begin", "shop",
             "hit", "let", "rub", "hug", "chat", "jog", "clap", "grab", "step", "slip", "wrap", "trip"}  # fmt: skip
_LONG_A = ("uni", "use", "usu", "euro", "one", "once", "uke")
STATIVE = frozenset(
    {"like", "love", "hate", "need", "want", "believe", "understand", "remember", "forget", "see", "hear", "have",
     "feel", "miss", "know", "agree", "own", "seem", "mean"}
)  # fmt: skip
"""Verbs that people neither put into the progressive nor say as a command."""


def article(phrase: str) -> str:
    """Put "a" or "an" before a phrase."""
    vowel = phrase[0] in "aeiou" and not phrase.startswith(_LONG_A)
    return ("an " if vowel or phrase.startswith(("hour", "honest")) else "a ") + phrase


def plural(noun: str) -> str:
    """Plural of a noun phrase: its head is the word before "of", else the last word."""
    if " of " in noun:
        head, rest = noun.split(" of ", 1)
        return f"{plural(head)} of {rest}"
    lead, _, word = noun.rpartition(" ")
    return f"{lead} {_plural_word(word)}".strip()


def _plural_word(word: str) -> str:
    if word in _PLURALS:
        return _PLURALS[word]
    if word.endswith(("s", "x", "ch", "sh", "z")):
        return word + "es"
    if word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    return word + "s"


def _third_person(verb: str) -> str:
    if verb in {"have", "be"}:
        return {"have": "has", "be": "is"}[verb]
    return verb + "es" if verb.endswith("o") else _plural_word(verb)


def _past(verb: str, participle: bool = False) -> str:
    if verb in _IRREGULAR:
        return _IRREGULAR[verb][participle]
    if verb.endswith("e"):
        return verb + "d"
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return verb[:-1] + "ied"
    return (verb + verb[-1] if verb in _DOUBLING else verb) + "ed"


def _progressive(verb: str) -> str:
    if verb == "lie":
        return "lying"
    if verb.endswith("e") and not verb.endswith(("ee", "be", "oe")):
        return verb[:-1] + "ing"
    return (verb + verb[-1] if verb in _DOUBLING else verb) + "ing"


VERB_FORMS: dict[str, Callable[[str], str]] = {
    "do": lambda verb: verb,
    "s": _third_person,
    "past": _past,
    "pp": lambda verb: _past(verb, participle=True),
    "ing": _progressive,
}


def bend(phrase: str, form: str) -> str:
    """Bend a phrase: ``a`` and ``pl`` work on nouns, the verb forms on the first word.

    Raises:
        ValueError: the form is not known.
    """
    if form == "a":
        return article(phrase)
    if form == "pl":
        return plural(phrase)
    if form not in VERB_FORMS:
        raise ValueError(f"form {form!r} is not one of a, pl, {', '.join(VERB_FORMS)}")
    verb, _, rest = phrase.partition(" ")
    return f"{VERB_FORMS[form](verb)} {rest}".strip()
