"""Completions that are cut and summed up, against a scripted engine and verifier: what is asked for, and what comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from curricula.types import CurriculaError, Cuts, Status
from rollout.dispatcher import Dispatcher
from rollout.producer import Producer
from rollout.prompts import Prompt, RewardSpec
from rollout.summaries import Summariser, passed, scores_at_cuts, segment_of
from rollout.turns import request_seed
from rollout.types import Answer, Completion, FinishReason, Judged, Request, Sampling, Ticket
from rollout.verifier import Score
from tests.rollout.test_dispatcher import ScriptedHandle, dispatch
from tests.rollout.test_turns import RETRY, LateVerifier

ASKED = (90, 91)
SUMMARISER = Summariser("so: ", ASKED, RewardSpec("exact", -1.0, 1.0))
CUTS = Cuts((2, 4, 6), n_summaries=2, summary_tokens=3)
PROMPT = Prompt("p", "d", "1+1", "2")


class Thinking(ScriptedHandle):
    """Completion i of group g thinks for g + i tokens, 6 at most, and is right if it stops by itself.

    The first summary behind a cut is right from 4 tokens on, the second never.
    """

    def answer(self, request: Request) -> Answer:
        taken.append(request)
        if request.ticket.cut:
            n_thought = len(request.prompt_ids) - 2 - len(ASKED)
            texts = ["right" if n_thought >= 4 and i == 0 else "wrong" for i in range(request.n)]
            drawn = [
                Completion(np.array([60 + i], np.int32), np.array([-5.0], np.float32), text, FinishReason.STOP)
                for i, text in enumerate(texts)
            ]
        else:
            lengths = [min(request.ticket.group + i, request.sampling.max_tokens) for i in range(request.n)]
            drawn = [self.thought(n, n == request.sampling.max_tokens) for n in lengths]
        return Answer(request.ticket, drawn, self.version, self.name, 0.0)

    @staticmethod
    def thought(n: int, stopped: bool) -> Completion:
        ids = 10 + np.arange(n, dtype=np.int32)
        finish = FinishReason.LENGTH if stopped else FinishReason.STOP
        return Completion(ids, -np.ones(n, np.float32), "wrong" if stopped else "right", finish)


taken: list[Request] = []


class Reading(LateVerifier):
    """Reads the answer behind the text that asks for it."""

    @staticmethod
    def _score(text: str) -> Score:
        return LateVerifier._score(text.removeprefix("so: "))


def request(group: int, n: int = 1, cuts: Cuts = CUTS) -> Request:
    ticket = Ticket(group)
    return Request(ticket, (7, 5), n, Sampling(max_tokens=6), request_seed(3, ticket), "p", cuts=cuts)


def produced(
    requests: Sequence[Request], handles: Sequence[ScriptedHandle] | None = None, verifier: LateVerifier | None = None
) -> dict[Ticket, list[Judged]]:
    taken.clear()
    producer = Producer(dispatch(handles or [Thinking("a", 1)]), verifier or Reading(), summariser=SUMMARISER)  # type: ignore[arg-type]
    return producer.produce(requests, {one.ticket: PROMPT for one in requests})


@pytest.mark.parametrize("patience", [0, 3, 50])
def test_scores_at_cuts_are_means_of_summaries_and_the_own_one_where_a_completion_had_ended(patience: int) -> None:
    (rollouts,) = produced([request(1, n=6)], verifier=Reading(patience)).values()  # 1, 2, 3, 4, 5 and 6 tokens
    tables = [None if one.cut_score_S is None else one.cut_score_S.tolist() for one in rollouts]
    assert tables == [[1, 1, 1], [1, 1, 1], [0, 1, 1], [0, 1, 1], [0, 0.5, 1], [0, 0.5, 0.5]]
    assert [sorted(one.summaries) for one in rollouts] == [[], [], [0], [0], [0, 1], [0, 1, 2]]
    assert [one.reward for one in rollouts] == [1, 1, 1, 1, 1, -1], "raw rewards are of whole completions"
    assert [len(one.completion.token_ids) for one in rollouts] == [1, 2, 3, 4, 5, 6]


def test_a_summary_has_the_thought_before_its_cut_the_text_that_asks_its_own_limit_and_seed() -> None:
    (rollouts,) = produced([request(5, n=2)]).values()
    asked = {(one.ticket.place, one.ticket.cut): one for one in taken if one.ticket.cut}
    assert asked.keys() == {(0, 1), (0, 2), (1, 1), (1, 2), (1, 3)}
    assert asked[1, 2].prompt_ids == (7, 5, 10, 11, 12, 13, *ASKED)
    assert {(one.n, one.sampling.max_tokens, len(one.cuts), one.prompt_key) for one in asked.values()} == {(2, 3, 0, "p")}
    assert len({one.seed for one in taken}) == len(taken) == 6
    summary = rollouts[0].summaries[1][1].completion
    assert summary.token_ids.tolist() == [*ASKED, 61]
    assert summary.logprob_T.tolist() == [0, 0, -5]
    assert summary.drawn_T is not None
    assert summary.drawn_T.tolist() == [False, False, True]
    assert (summary.n_drawn, summary.text) == (1, "so: wrong")


def test_the_verifier_reads_the_text_that_asks_and_what_was_drawn_behind_it() -> None:
    verifier = Reading()
    produced([request(3)], verifier=verifier)
    assert verifier.texts == ["right", "so: wrong", "so: wrong"]


def test_without_a_score_of_its_own_a_completion_has_none_at_its_cuts_but_its_summaries_are_charged() -> None:
    class Breaking(Reading):
        @staticmethod
        def _score(text: str) -> Score:
            return LateVerifier._score("boom" if text == "right" else text.removeprefix("so: "))

    (rollouts,) = produced([request(5, n=2)], verifier=Breaking()).values()
    assert [one.status for one in rollouts] == [Status.ERROR, Status.OK]
    assert rollouts[0].cut_score_S is None
    assert rollouts[1].cut_score_S is not None
    assert [sorted(one.summaries) for one in rollouts] == [[0, 1], [0, 1, 2]]


def test_failed_summaries_do_not_count_and_a_cut_without_any_is_unknown() -> None:
    class Flaky(Reading):
        @staticmethod
        def _score(text: str) -> Score:
            return LateVerifier._score("boom" if text == "so: wrong" else text.removeprefix("so: "))

    (rollouts,) = produced([request(5)], verifier=Flaky()).values()
    table = rollouts[0].cut_score_S
    assert table is not None
    np.testing.assert_array_equal(table, [np.nan, 1.0, 1.0])
    assert [one.status for one in rollouts[0].summaries[1]] == [Status.OK, Status.ERROR]


@pytest.mark.parametrize("seed", range(30))
def test_deaths_between_thoughts_and_summaries_change_nothing(seed: int) -> None:
    asked = [request(1 + i % 6, n=1 + i % 3) for i in range(6)]
    calm = produced(asked)
    handles = [Thinking(f"engine-{i}", 10 * seed + i, p_death=0.15, p_twice=0.3) for i in range(1 + seed % 3)]
    rough = produced(asked, handles, Reading(seed % 4))
    assert rough.keys() == calm.keys()
    for ticket, rollouts in calm.items():
        for one, other in zip(rollouts, rough[ticket], strict=True):
            np.testing.assert_array_equal(one.cut_score_S, other.cut_score_S)  # type: ignore[arg-type]
            assert {s: [j.completion.text for j in behind] for s, behind in one.summaries.items()} == {
                s: [j.completion.text for j in behind] for s, behind in other.summaries.items()
            }
    seeds: dict[Ticket, set[int]] = {}
    for one_request in taken:
        seeds.setdefault(one_request.ticket, set()).add(one_request.seed)
    assert all(len(found) == 1 for found in seeds.values())


def test_what_the_engine_is_asked_and_when_does_not_depend_on_the_verifiers_speed() -> None:
    orders = []
    for patience in (0, 3, 50):
        produced([request(1 + i, n=2) for i in range(6)], verifier=Reading(patience))
        orders.append([one.ticket for one in taken])
    assert orders[0] == orders[1] == orders[2]
    assert {ticket.cut for ticket in orders[0]} == {0, 1, 2, 3}


def test_requests_without_cuts_know_nothing_of_summaries() -> None:
    (rollouts,) = produced([request(6, cuts=Cuts())]).values()
    assert (rollouts[0].cut_score_S, dict(rollouts[0].summaries), len(taken)) == (None, {}, 1)
    assert scores_at_cuts(rollouts, Cuts()).shape == (1, 0)
    assert scores_at_cuts([], CUTS).shape == (0, 3)


def test_only_the_limit_makes_a_completion_of_a_cuts_length_pass_it() -> None:
    ended, stopped = (Thinking.thought(4, stopped) for stopped in (False, True))
    assert passed(CUTS, ended) == [(0, 2)]
    assert passed(CUTS, stopped) == [(0, 2), (1, 4)]
    assert passed(CUTS, replace(stopped, finish=FinishReason.CANCELLED)) == []
    assert segment_of(CUTS, 8).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_what_cannot_be_summed_up_is_refused() -> None:
    silent = Producer(Dispatcher.__new__(Dispatcher), LateVerifier())  # type: ignore[arg-type]
    with pytest.raises(CurriculaError, match="requests with cuts, but nothing that asks the model for a summary"):
        silent.produce([request(1)], {})
    both = Producer(Dispatcher.__new__(Dispatcher), LateVerifier(), retry=RETRY, summariser=SUMMARISER)  # type: ignore[arg-type]
    with pytest.raises(CurriculaError, match="cuts and several turns"):
        both.produce([replace(request(1), max_turns=2)], {})


@pytest.mark.parametrize(
    ("at", "n", "tokens", "message"),
    [((3, 3), 1, 1, r"rising numbers of tokens > 0, got \(3, 3\)"), ((0, 3), 1, 1, "rising"), ((3,), 0, 1, "got 0 of 1")],
)
def test_bad_cuts_are_named(at: tuple[int, ...], n: int, tokens: int, message: str) -> None:
    with pytest.raises(CurriculaError, match=message):
        Cuts(at, n, tokens)
