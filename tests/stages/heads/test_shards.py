"""Two processes that hold half of the classes each, against one that holds all."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
import torch

from stages.core.losses.class_parallel import Shard
from stages.core.losses.head import CosineHead
from tests.stages.heads.shard_worker import CLASSES, DIM, WORLD, batches, broad_steps, modes, steps
from tests.stages.heads.support import SHARDABLE, SHARDABLE_VARIANTS, build
from tests.support import ROOT


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "tests.stages.heads.shard_worker"]
    started = [
        subprocess.Popen(
            [*command, str(rank), str(WORLD), str(folder)],
            cwd=ROOT, stderr=subprocess.PIPE, text=True, env={**os.environ, "GLOO_SOCKET_IFNAME": "lo"},
        )
        for rank in range(WORLD)
    ]  # fmt: skip
    try:
        for process in started:
            _, complaint = process.communicate(timeout=120)
            assert process.returncode == 0, complaint
    finally:
        for process in started:
            process.kill()
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(WORLD)]


def off(measured: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((measured.double() - wanted.double()).norm() / wanted.double().norm().clamp_min(1e-300))


@pytest.mark.parametrize("index", range(len(SHARDABLE_VARIANTS)), ids=map(str, SHARDABLE_VARIANTS))
def test_two_processes_equal_one(ranks: list[dict[str, Any]], index: int):
    for mode in modes(index):
        alone = steps(Shard(), *SHARDABLE_VARIANTS[index], mode)
        for one, *others in zip(alone, *(rank[f"{index}-{mode}"] for rank in ranks), strict=True):
            for key in ("feature_grad", "weight_grad", "cosine", "nearest"):
                assert off(torch.cat([other[key] for other in others]), one[key]) < 1e-5, key
            for other in others:
                assert off(other["loss"], one["loss"]) < 1e-5
                for name, value in one["state"].items():
                    assert off(other["state"][name], value) < 1e-5, name
            # a checkpoint keeps one rank's: they must be the same to the bit
            assert all(torch.equal(others[0]["state"][name], others[1]["state"][name]) for name in one["state"])
            # parameters that every rank has and moves itself, as UniFace's threshold
            for name, gradient in one["common_grads"].items():
                assert off(others[0]["common_grads"][name], gradient) < 1e-5, name
                assert torch.equal(others[0]["common_grads"][name], others[1]["common_grads"][name]), name


def test_two_processes_with_broadfaces_queue_equal_one(ranks: list[dict[str, Any]]):
    for one, *others in zip(broad_steps(Shard()), *(rank["broad"] for rank in ranks), strict=True):
        for key in ("feature_grad", "weight_grad"):
            assert off(torch.cat([other[key] for other in others]), one[key]) < 1e-5, key
        for other in others:
            assert off(other["loss"], one["loss"]) < 1e-5
            assert torch.equal(other["queue"], one["queue"])


@pytest.mark.parametrize("name", SHARDABLE)
def test_shards_start_from_the_rows_of_the_whole(name: str):
    whole_CD = build(name, DIM, CLASSES).weight
    parts = [build(name, DIM, CLASSES, Shard(rank, 3)).weight for rank in range(3)]
    assert torch.equal(torch.cat(parts), whole_CD)


def test_a_shard_may_hold_no_class_at_all():
    assert [len(Shard(rank, 4).rows(2)) for rank in range(4)] == [1, 1, 0, 0]


def test_processes_that_sample_move_their_share_of_the_classes_and_the_batchs_own(ranks: list[dict[str, Any]]):
    label_B = batches()[0][1]
    moved = []
    for rank, made in enumerate(ranks):
        held = Shard(rank, WORLD).rows(CLASSES)
        rows = made["sampled"]["rows"] + held.start
        positives = {int(label) for label in label_B if int(label) in held}
        assert made["sampled"]["sparse"]
        assert len(rows) == max(round(len(held) / 2), len(positives))
        assert positives <= set(rows.tolist())
        moved.append(rows)
    assert torch.equal(ranks[0]["sampled"]["loss"], ranks[1]["sampled"]["loss"])
    assert len(torch.cat(moved)) < CLASSES


@pytest.mark.parametrize("rate", [0.05, 0.3])
def test_classes_are_sampled_alike_without_asking_the_device(rate: float):
    shard = Shard(0, 2, sample_rate=rate)
    own_B = torch.tensor([7, 199, -1, 7, 0, -1, 42, 41, 3, 90, 100, 150])
    torch.manual_seed(1)
    asked_K = shard.sample(200, own_B)
    torch.manual_seed(1)
    unasked_K = shard._sample_unasked(200, own_B)
    assert set(own_B[own_B >= 0].tolist()) <= set(unasked_K.tolist())
    assert unasked_K.tolist() == sorted(set(unasked_K.tolist()))
    # as many as the rate says, or as a batch may have
    assert len(unasked_K) == max(round(rate * 200), len(own_B))
    if rate == 0.3:
        assert torch.equal(asked_K, unasked_K)


def test_batches_of_different_sizes_are_refused_by_all(ranks: list[dict[str, Any]]):
    assert [made["refusal"] for made in ranks] == ["every rank needs a batch of one size, got 2 to 3"] * 2


def test_all_classes_taking_part_is_what_no_sampling_gives():
    feature_BD, label_B = batches()[1]
    dense, sparse = (build("cosface", DIM, CLASSES, Shard(sample_rate=rate)) for rate in (1.0, 0.9999))
    for head in (dense, sparse):
        head(feature_BD, label_B).loss.backward()
    assert off(sparse.weight.grad.to_dense(), dense.weight.grad) < 1e-6


def test_the_loss_of_a_sample_is_that_of_its_classes_alone():
    feature_BD, label_B = batches()[1]
    head = build("arcface", DIM, CLASSES, Shard(sample_rate=0.5))
    torch.manual_seed(3)
    loss = head(feature_BD, label_B).loss
    loss.backward()
    row_K = head.weight.grad.coalesce().indices()[0]
    alone = build("arcface", DIM, len(row_K))
    alone.weight.data.copy_(head.weight.data[row_K])
    torch.testing.assert_close(alone(feature_BD, torch.searchsorted(row_K, label_B)).loss, loss)


def test_a_head_that_needs_all_cosines_refuses_a_shard():
    class Whole(CosineHead):
        def with_margin(
            self, cosine_BC: torch.Tensor, norm_B: torch.Tensor, label_B: torch.Tensor
        ) -> torch.Tensor:
            return cosine_BC

    assert Whole(4, 8, 64.0).num_classes == 8
    with pytest.raises(ValueError, match="cannot be sharded"):
        Whole(4, 8, 64.0, Shard(0, 2))


def test_a_shard_refuses_to_give_all_logits():
    head = build("arcface", DIM, CLASSES, Shard(0, 2))
    with pytest.raises(ValueError, match="holds one shard"):
        head.logits(torch.ones(1, DIM), torch.zeros(1, dtype=torch.long))
