"""Training a student computes in half precision where the device has it, and keeps its weights and losses whole."""

import pytest
import torch
from torch import nn

from models.students.build import build_student
from models.students.training import StudentTrainConfig, train_baseline, train_student
from tests.models.tiny import STUFF, disc_examples, soft_dataset

CPU = torch.device("cpu")


@pytest.mark.parametrize("supported", [True, False])
def test_student_and_baseline_compute_in_the_precision_that_the_device_has(
    monkeypatch: pytest.MonkeyPatch, supported: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: supported)
    seen: dict[bool, set[torch.dtype]] = {True: set(), False: set()}
    student, baseline = (build_student("segformer_nano", STUFF, (32, 32)) for _ in range(2))
    for network in (student, baseline):
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d):
                layer.register_forward_hook(lambda layer, _inputs, output: seen[layer.training].add(output.dtype))
    config, few = StudentTrainConfig(steps=2, batch_size=2), disc_examples(2)
    trained = train_student(student, soft_dataset(disc_examples(2)), few, STUFF, config, device=CPU)
    train_baseline(baseline, few, STUFF, config, device=CPU)
    assert seen[True] == {torch.bfloat16 if supported else torch.float32}
    assert seen[False] == {torch.float32}, "the student is compared with its teacher as it is used"
    assert {value.dtype for value in (*student.parameters(), *baseline.parameters())} == {torch.float32}
    assert trained["steps"] == 2
