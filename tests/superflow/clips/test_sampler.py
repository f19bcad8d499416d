from __future__ import annotations

from superflow.clips.sampler import DrawBatches, EveryItem, draw_seed, drawn_item, step_seed


def batches(**options) -> list[list[tuple[int, int]]]:
    return list(DrawBatches(7, **{"batch_size": 2, "seed": 3, "stop": 14, **options}))


def test_every_epoch_is_a_permutation_and_another_one() -> None:
    items = [drawn_item(3, draw, 50) for draw in range(150)]
    epochs = [items[:50], items[50:100], items[100:]]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert epochs[0] != [drawn_item(4, draw, 50) for draw in range(50)]


def test_the_order_is_the_same_on_every_machine_and_version() -> None:
    # checkpoints of a run half done depend on it
    assert [drawn_item(3, draw, 7) for draw in range(8)] == [4, 3, 6, 0, 1, 2, 5, 3]
    assert draw_seed(3, 0) == 5712964121383671236
    assert step_seed(3, 0, 0) == 5737856171534892084


def test_a_run_starts_at_any_iteration_without_running_through_its_data() -> None:
    resumed = DrawBatches(7, batch_size=2, seed=3, stop=14)
    resumed.start = 10
    assert list(resumed) == batches()[10:]


def test_ranks_together_draw_what_one_process_draws() -> None:
    whole = batches(batch_size=4, stop=7)
    parts = [batches(rank=rank, world_size=2, stop=7) for rank in (0, 1)]
    for joint, first, second in zip(whole, *parts, strict=True):
        assert joint == [first[0], second[0], first[1], second[1]]


def test_no_two_draws_share_random_numbers() -> None:
    seeds = {draw_seed(seed, draw) for seed in range(5) for draw in range(200)}
    seeds |= {step_seed(seed, step, rank) for seed in range(5) for step in range(100) for rank in range(2)}
    assert len(seeds) == 2000
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_evaluation_sees_every_item_once_over_all_ranks() -> None:
    parts = [list(EveryItem(7, rank=rank, world_size=3)) for rank in range(3)]
    assert parts == [[0, 3, 6], [1, 4], [2, 5]]
