"""What several processes learn from a batch's parts is what one learns from the whole."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from models.group_processes import processes_for, train_together
from models.peak_memory import PeakMemory
from models.training_group import Alone, SharedBatchNorm2d, rows_of, share_batch_norms
from tests.models import sharing_member


def test_a_batch_is_shared_out_evenly() -> None:
    assert [processes_for(8, most) for most in (0, 1, 2, 3, 4, 7, 8, 64)] == [1, 1, 2, 2, 4, 4, 8, 8]
    assert processes_for(5, 4) == 1
    assert [processes_for(size, 4, least_each=8) for size in (8, 16, 24, 32)] == [1, 2, 3, 4]
    rows = range(8)[rows_of(Alone(), 8)]
    assert list(rows) == list(range(8))


class NotedMemory(PeakMemory):
    noted = 0

    def note(self, num_bytes: int) -> None:
        self.noted = num_bytes


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Of weights and statistics; not of counters."""
    floats = [name for name, value in one.items() if value.is_floating_point()]
    return sum(float((one[name] - other[name]).square().sum()) for name in floats) ** 0.5


@pytest.mark.timeout(300)
def test_two_processes_learn_what_one_does(tmp_path: Path) -> None:
    steps = 6
    (tmp_path / "what").write_text(f"upernet_textnet {steps}")
    module, memory = sharing_member.__name__, NotedMemory(torch.device("cpu"))
    (losses,) = train_together(module, tmp_path, 2, progress=None, stop=None, errors={}, memory=memory)
    assert memory.noted > 2 * 100_000_000, "of two processes with torch in them"
    together = load_file(tmp_path / sharing_member.TRAINED)
    alone, lonely_losses = sharing_member.trained("upernet_textnet", steps, Alone())
    begun, _ = sharing_member.trained("upernet_textnet", 0, Alone())
    assert losses == pytest.approx(lonely_losses, rel=1e-3), "losses of whole batches"
    assert together.keys() == alone.keys()
    far, apart = distance(alone, begun), distance(alone, together)
    assert apart < far / 50, "as far apart as rounding, magnified where Adam divides by tiny gradients, explains"


def test_a_shared_batch_norm_is_the_one_it_was() -> None:
    """Alone it sees the whole batch: values, gradients, statistics, and what it does when it is used."""
    torch.manual_seed(0)
    plain, shared = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    share_batch_norms(shared, Alone())
    assert isinstance(shared, SharedBatchNorm2d)
    value_BCHW = torch.randn(4, 3, 5, 5) * 2 + 1
    inputs = [value_BCHW.clone().requires_grad_() for _ in range(2)]
    answers = [norm(mine_BCHW) for norm, mine_BCHW in zip((plain, shared), inputs, strict=True)]
    assert torch.allclose(*answers, atol=1e-5)
    for answer_BCHW in answers:
        (answer_BCHW.square() * torch.arange(5)).sum().backward()
    gradients = [mine_BCHW.grad for mine_BCHW in inputs]
    mine_BCHW, theirs_BCHW = (gradient for gradient in gradients if gradient is not None)
    assert torch.allclose(mine_BCHW, theirs_BCHW, atol=1e-4)
    for name, value in plain.state_dict().items():
        assert torch.allclose(shared.state_dict()[name], value, atol=1e-5), name
    assert torch.allclose(plain.eval()(value_BCHW), shared.eval()(value_BCHW), atol=1e-5)
