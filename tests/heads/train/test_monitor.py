"""TensorBoard shows what was added, also of a run that has not closed its file."""

from pathlib import Path

from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from heads.train.monitor import Monitor


def test_what_was_added_can_be_read_before_the_file_is_closed(tmp_path: Path) -> None:
    monitor = Monitor(tmp_path)
    for epoch, loss in ((1, 0.5), (2, 0.25)):
        monitor.scalars({"epoch": epoch, "train_loss": loss})
        events = EventAccumulator(str(tmp_path)).Reload().Scalars("train_loss")
        assert [(event.step, event.value) for event in events] == [(1, 0.5), (2, 0.25)][:epoch]
    monitor.images(2, Figure())
    assert [event.step for event in EventAccumulator(str(tmp_path)).Reload().Images("predictions")] == [2]
    monitor.close()
