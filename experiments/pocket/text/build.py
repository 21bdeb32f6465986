"""Writes the texts the miniature models are trained on.

python -m experiments.pocket.text.build --out DIR --n 40000 --seed 0
"""

import argparse
import json
import random
from collections import Counter
from pathlib import Path

from csmkit.chat.settings import PRESETS, turn_options
from csmkit.files.hub import bundled_folder
from csmkit.lab.texts import TEXT_SETS, read_texts
from csmkit.speech.abilities import Abilities
from csmkit.text.clauses import ClauseSplitter
from experiments.pocket.text.dialogues import MAX_TURNS, Composer, Talk
from experiments.pocket.text.examples import WORDNET, examples
from experiments.pocket.text.grammar import HERE, read_lines
from experiments.pocket.text.intents import sentences_of, written
from experiments.pocket.text.sentences import compose, key_of, words_of
from experiments.pocket.text.vocabulary import load_vocabulary

N_DEV, N_HELD_OUT = 200, 100
N_DIALOGUES = 40_000
"""How many dialogues the bundled language model was trained on; ``make pocket`` composes as many."""
N_HELD_OUT_DIALOGUES = 2500
N_ALONE = 400
N_CLAUSE_TURNS = 40_000
"""So many answers are cut into clauses; nearly all clauses have been seen by then."""
MIN_COUNT = 3
"""A held-out sentence has only words that training says at least so often."""


def fixed_split() -> dict[str, list[str]]:
    """Sentences that are kept out of training for good, by file name; empty for a file that is not there yet."""
    return {
        name: read_lines(HERE / name) if (HERE / name).exists() else []
        for name in ("held_out.txt", "dev.txt", "other.txt")
    }


def hold_out(corpus: dict[str, str], n_sentences: int, rng: random.Random) -> list[str]:
    """Take everyday sentences out of the corpus, all of whose words it says often enough."""
    heard = Counter(word for sentence in corpus for word in words_of(sentence))
    chosen: list[str] = []
    candidates = [sentence for sentence, source in corpus.items() if source in {"everyday", "answer"}]
    rng.shuffle(candidates)
    for sentence in candidates:
        words = words_of(sentence)
        if len(chosen) < n_sentences and 3 <= len(words) <= 14 and all(heard[word] > MIN_COUNT + 2 for word in words):
            chosen.append(sentence)
            heard.subtract(words)
    for sentence in chosen:
        del corpus[sentence]
    return chosen


def brief(words: tuple[str, ...]) -> list[str]:
    """What is said in a word or two, and the commonest words alone, each once."""
    said = [part.strip() for line in read_lines(HERE / "brief.txt") for part in line.split("|")]
    return list(dict.fromkeys([*said, *(f"{word}." for word in words[:N_ALONE])]))


def clauses_of(composer: Composer, n_turns: int) -> Counter[str]:
    """What the voice is given of so many answers, cut as the chatbot cuts them, and their whole sentences.

    Lower case, each with how often it was said.
    """
    first_words = turn_options(PRESETS["pocket"]).first_words
    most_words = Abilities.read(bundled_folder("voice")).most_words
    said: Counter[str] = Counter()
    for _ in range(n_turns // MAX_TURNS):
        talk = Talk(composer)
        for _ in range(MAX_TURNS):
            answer = talk.turn().answer
            splitter = ClauseSplitter(first_words, most_words)
            text = written(answer)
            clauses = [clause for word in text.split() for clause in splitter.push(f"{word} ")] + splitter.flush()
            said.update(clause.spoken.lower() for clause in clauses)
            said.update(sentences_of(answer))
    return said


def texts_kept_out() -> frozenset[str]:
    """Keys of all sentences that no training may contain: the split's, and the text sets of the sweeps."""
    sets = [sentence for name in TEXT_SETS for sentence in read_texts(name)]
    split = [sentence for sentences in fixed_split().values() for sentence in sentences]
    return frozenset(map(key_of, [*split, *sets]))


def write_clauses(out: Path, seed: int, wordnet: Path) -> None:
    """Write clauses.txt: what the voice is given of the answers, the most frequent first."""
    said = clauses_of(Composer(random.Random(seed + 4), odd_names=0, wordnet=wordnet), N_CLAUSE_TURNS)
    kept_out = texts_kept_out()
    clauses = [clause for clause, _ in said.most_common() if key_of(clause) not in kept_out]
    write_lines(out / "clauses.txt", clauses)
    print(f"{len(clauses)} distinct clauses and sentences, {len(said) - len(clauses)} kept out")


def write_lines(path: Path, lines: list[str]) -> None:
    """Write one entry a line."""
    path.write_text("\n".join(lines) + "\n")


def write_sentences(out: Path, n_sentences: int, seed: int, wordnet: Path) -> None:
    """Compose and write train.txt, dev.txt and held_out.txt, and fix the split beside this file the first time.

    answers.txt has every sentence that the dialogues' answers are made of, the most frequent first; examples.txt comes
    from WordNet; brief.txt holds utterances of a word or two.
    """
    rng = random.Random(seed)
    vocabulary = load_vocabulary()
    said = Counter(Composer(random.Random(seed + 1), odd_names=0, wordnet=wordnet).answers())
    answers = [sentence for sentence, _ in said.most_common()]
    write_lines(out / "answers.txt", answers)
    print(f"{len(answers)} distinct sentences in {said.total()} of the answers")
    split = fixed_split()
    keep_out = frozenset(key_of(sentence) for sentences in split.values() for sentence in sentences)
    missing = {name: n for name, n in (("held_out.txt", N_HELD_OUT), ("dev.txt", N_DEV)) if not split[name]}
    corpus = compose(n_sentences + sum(missing.values()), vocabulary, answers, rng, keep_out)
    for name, count in missing.items():
        split[name] = hold_out(corpus, count, rng)
        write_lines(HERE / name, split[name])
    sentences = list(corpus)
    rng.shuffle(sentences)
    write_lines(out / "train.txt", sentences)
    for name, held in split.items():
        write_lines(out / name, held)
    heard = Counter(word for sentence in sentences for word in words_of(sentence))
    n_rare = sum(heard[word] < 8 for word in vocabulary.words)
    print(f"{len(sentences)} sentences, {len(heard)} word types, {n_rare} words of the vocabulary below 8")
    print(dict(Counter(corpus.values())))
    kept_out = frozenset(key_of(sentence) for held in split.values() for sentence in held)
    write_lines(out / "brief.txt", brief(vocabulary.words))
    quoted = examples(wordnet, sentences, kept_out)
    random.Random(seed).shuffle(quoted)
    write_lines(out / "examples.txt", quoted)
    types = {word for sentence in quoted for word in words_of(sentence)}
    print(f"{len(quoted)} examples, {len(types - set(heard))} further word types")


def write_dialogues(out: Path, n_dialogues: int, seed: int, wordnet: Path) -> None:
    """Compose and write dialogues.jsonl and dialogues_held_out.jsonl; they also name the first turn's topic."""
    for name, count, held_out in (
        ("dialogues", n_dialogues, False),
        ("dialogues_held_out", N_HELD_OUT_DIALOGUES, True),
    ):
        composer = Composer(random.Random(seed + 2 + held_out), held_out=held_out, wordnet=wordnet)
        with (out / f"{name}.jsonl").open("w") as file:
            for _ in range(count):
                topic, messages = composer.dialogue()
                file.write(json.dumps({"topic": topic, "messages": messages}) + "\n")


def main() -> None:
    """Parse the arguments and write everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--n", type=int, default=40_000, help="training sentences")
    parser.add_argument("--dialogues", type=int, default=N_DIALOGUES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--wordnet", type=Path, default=WORDNET, help="folder of WordNet's data files")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_sentences(arguments.out, arguments.n, arguments.seed, arguments.wordnet)
    write_clauses(arguments.out, arguments.seed, arguments.wordnet)
    write_dialogues(arguments.out, arguments.dialogues, arguments.seed, arguments.wordnet)


if __name__ == "__main__":
    main()
