"""Evolution on islands, of a domain of its own: words that are to be near another word."""

from hashlib import blake2b

import numpy as np
import pytest

from evolve.search.archive import Archive, Entry
from evolve.search.config import SearchConfig
from evolve.search.island import packed, unpacked
from evolve.search.method import Islands
from zoo.runtime.hosts import InlineHost, ThreadsHost
from zoo.runtime.loop import run

WANTED = "consensus"


class Words:
    """Words: letters are inserted, removed and changed; a word costs its length."""

    unit = "words"

    def __init__(self):
        self.assessed = []

    def fresh(self):
        return type(self)()

    def seeds(self):
        return ["a"]

    def vary(self, genome, random):
        letters = list(genome)
        at = int(random.integers(len(letters) + 1))
        letter = chr(97 + int(random.integers(26)))
        kind = int(random.integers(3))
        if kind == 0 and len(letters) < 12:
            letters.insert(at, letter)
        elif kind == 1 and len(letters) > 1:
            del letters[min(at, len(letters) - 1)]
        else:
            letters[min(at, len(letters) - 1)] = letter
        return "".join(letters)

    def cost(self, genome):
        return len(genome)

    def key(self, genome):
        return int.from_bytes(blake2b(genome.encode(), digest_size=8).digest())

    def assess(self, genome, least, random):
        self.assessed.append(genome)
        near = (1 - abs(ord(a) - ord(b)) / 26 for a, b in zip(genome, WANTED, strict=False))
        return sum(near) + 1e-3 * sum(a == b for a, b in zip(genome, WANTED, strict=False)), genome

    def pack(self, genomes):
        return {"words": np.array(genomes, "U12")}

    def unpack(self, state):
        return [str(word) for word in state["words"]]


CONFIG = SearchConfig(islands=3, elites=5, slack=1.5, emigrants=2, batch=40, candidates=6000)


def entries(archive):
    return [(e.cost, e.score, e.genome) for e in archive.entries()]


def test_the_front_is_found():
    method = Islands(Words(), CONFIG, 1)
    run(method, InlineHost())
    front = method.front()
    assert [e.genome for e in front][:5] == [WANTED[:n] for n in range(1, 6)]
    assert front[-1].score > 8.5  # 9.009 is that of the word itself
    assert sorted(e.score for e in front) == [e.score for e in front]
    result = method.result()
    assert (result["status"], result["words"]) == ("candidates", 6000)
    assert result["candidates"] > 6000


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_same_bits_on_threads(threads):
    one, other = (Islands(Words(), CONFIG, 7) for _ in range(2))
    run(one, InlineHost())
    run(other, ThreadsHost(threads))
    assert entries(other.archive) == entries(one.archive)
    assert other.result() == one.result()


@pytest.mark.parametrize("steps", [0, 1, 5])
def test_taken_up_from_a_state(steps):
    whole = Islands(Words(), CONFIG, 3)
    run(whole, InlineHost())
    method = Islands(Words(), CONFIG, 3)
    islands = [method.shard(index) for index in range(method.shards)]
    for _ in range(steps):
        message = method.message(1)
        method.merge([island.step(message) for island in islands])
    states = [island.state() for island in islands]
    other = Islands(Words(), CONFIG, 3)
    other.restore(method.state())
    assert other.progress() == method.progress()
    run(other, InlineHost(), resumed=states)
    assert entries(other.archive) == entries(whole.archive)
    assert other.result() == whole.result()


def test_islands_differ_and_pass_on_what_they_find():
    config = SearchConfig(islands=3, elites=5, slack=1.5, emigrants=0, batch=60)
    method = Islands(Words(), config, 2)
    islands = [method.shard(index) for index in range(3)]
    for _ in range(2):
        message = method.message(1)
        reports = [island.step(message) for island in islands]
        method.merge(reports)
    assert len({tuple(entries(island.archive)) for island in islands}) == 3
    message = method.message(1)
    sent = [unpacked(islands[0].domain, migrants) for migrants in message.migrants]
    for island in islands:
        origin = (island.index + 1 + message.step % 2) % 3
        assert origin != island.index
        island.domain.assessed.clear()
        island.step(message)
        for entry in sent[origin]:  # taken in, and not assessed again
            assert island.archive.bins[entry.cost][0].score >= entry.score
            assert entry.genome not in island.domain.assessed


def test_no_genome_is_assessed_twice():
    config = SearchConfig(islands=1, batch=300)
    method = Islands(Words(), config, 4)
    island = method.shard(0)
    for _ in range(3):
        method.merge([island.step(method.message(1))])
    assert len(island.domain.assessed) == len(set(island.domain.assessed)) == 901
    assert method.result()["candidates"] > 900


class Few(Words):
    """A domain of two words."""

    def vary(self, genome, random):
        return "ab"[random.integers(2)]


def test_a_small_domain_is_exhausted():
    method = Islands(Few(), SearchConfig(islands=2), 1)
    run(method, InlineHost())
    result = method.result()
    assert (result["status"], result["words"]) == ("exhausted", 2)
    assert result["success"]


def test_archive():
    archive = Archive(keep=2, slack=1.0)
    assert archive.least(3) == -np.inf
    assert archive.add(Entry(2, 5.0, "b"))
    assert not archive.add(Entry(2, 4.5, "c"))  # kept, not the best
    assert archive.least(2) == 4.5
    assert not archive.add(Entry(2, 4.4, "d"))  # no room
    assert not archive.add(Entry(2, 5.0 + 1e-9, "b again"))
    assert not archive.add(Entry(3, 3.9, "far behind a cheaper one"))
    assert archive.add(Entry(3, 4.1, "e"))
    assert archive.add(Entry(4, 6.0, "f"))
    assert [e.genome for e in archive.front()] == ["b", "f"]
    assert [e.genome for e in archive.entries()] == ["b", "c", "e", "f"]
    assert archive.add(Entry(1, 5.5, "g"))
    assert [e.genome for e in archive.entries()] == ["g", "b", "f"]  # what is far behind has gone
    assert [e.genome for e in archive.front()] == ["g", "f"]


def test_better_elites_are_chosen_more_often():
    archive = Archive(keep=4, slack=9.0)
    for score in range(4):
        archive.add(Entry(1, float(score), score))
    archive.add(Entry(2, 9.0, "other cost"))
    random = np.random.default_rng(0)
    chosen = [archive.choose(random).genome for _ in range(4000)]
    counts = [chosen.count(score) for score in (3, 2, 1, 0)]
    assert chosen.count("other cost") == pytest.approx(2000, abs=150)
    assert counts == sorted(counts, reverse=True)
    assert min(counts) > 100


def test_packed_entries():
    held = [Entry(2, 1.5, "ab"), Entry(3, np.inf, "abc")]
    assert unpacked(Words(), packed(Words(), held)) == held
    assert unpacked(Words(), packed(Words(), [])) == []
